/* hostile_agent: lies where vms-agent should, for a guest that has taken over its agent. What it plays is the word in
 * /srv/hostile/HOSTNAME; without such a file it becomes the real one, /srv/hostile/vms-agent. Each start is another
 * random sequence. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/proto.h>

#define DIR "/srv/hostile/"
enum { LINE = 3 /* the fd that the agent is given */ };

static uint8_t wire[FRAME_BYTES_MAX + 1], incoming[FRAME_BYTES_MAX], content[FRAME_PAYLOAD_MAX + 1];
static struct frame_reader reader = {.buf = incoming, .hello = true};
static uint64_t nonce;

/* ---- the line ---- */

static void say_bytes(const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = send(LINE, (const char *)p + at, n - at, MSG_NOSIGNAL);

        if (w <= 0)
            exit(0); /* the host has had enough */
        at += (size_t)w;
    }
}

static void say(enum frame_type type, uint32_t stream, const void *data, size_t n)
{
    struct frame f = {.type = type, .channel = type == FRAME_DATA ? CHANNEL_STDOUT : 0, .stream = stream, .nonce = nonce,
                      .data = data, .n = (uint32_t)n};

    say_bytes(wire, frame_encode(wire, &f));
}
#define say_text(type, stream, text) say(type, stream, text, sizeof(text))

static struct frame hear(void)
{
    struct frame f = {0};

    while (frame_next(&reader, &f) != FRAME_GOT) {
        size_t room;
        void *p = frame_reader_room(&reader, &room);
        ssize_t n = recv(LINE, p, room, 0);

        if (n <= 0)
            exit(0);
        frame_reader_add(&reader, (size_t)n);
    }
    return f;
}

static struct frame hear_open(void)
{
    struct frame f;

    do
        f = hear();
    while (f.type != FRAME_OPEN);
    return f;
}

static void welcome(void)
{
    say_text(FRAME_WELCOME, 0, "version=1\0agent=vms-agent 0.1");
}

/* ---- plays ---- */

static uint32_t any(uint32_t n)
{
    return (uint32_t)random() % n;
}

/* Every type, length, stream and channel, at its bounds and past them; some with a wrong sum, nonce or version. */
static void play_frames(void)
{
    static const uint32_t lengths[] = {0, 1, 3, 4, 5, 8, FRAME_TEXT_MAX, FRAME_TEXT_MAX + 1, FRAME_PAYLOAD_MAX,
                                       FRAME_PAYLOAD_MAX + 1, 1u << 31, UINT32_MAX};
    const uint32_t open = any(2) ? hear_open().stream : 1;
    const uint32_t streams[] = {0, open, open, open + 1, UINT32_MAX, (uint32_t)random()};

    for (;;) {
        struct frame f = {.type = any(4) ? FRAME_DATA + any(FRAME_TYPE_COUNT - FRAME_DATA) : any(256),
                          .channel = any(8) ? CHANNEL_STDOUT : any(256), .stream = streams[any(6)],
                          .n = lengths[any(sizeof lengths / sizeof *lengths)], .nonce = any(16) ? nonce : 0};
        uint32_t n = f.n <= FRAME_PAYLOAD_MAX ? f.n : any(FRAME_PAYLOAD_MAX);

        f.data = content;
        if (f.n == n) {
            frame_encode(wire, &f);
        } else { /* more is promised than comes */
            uint32_t promised = f.n;

            f.n = 0;
            frame_encode(wire, &f);
            le32_put(wire + 12, promised);
        }
        if (any(16) == 0)
            wire[any(FRAME_HEAD)] ^= (uint8_t)(1u << any(8));
        say_bytes(wire, FRAME_HEAD + n);
    }
}

static void play_flood(void)
{
    for (;;)
        say_text(FRAME_END, 77, "exit=0");
}

static void play_garbage(void)
{
    for (;;)
        say_bytes(content, sizeof content);
}

/* A byte at a time, in the middle of a frame. */
static void play_slow(void)
{
    struct frame f = {.type = FRAME_DATA, .channel = CHANNEL_STDOUT, .stream = 1, .nonce = nonce, .data = content, .n = 60000};
    size_t n = frame_encode(wire, &f);

    for (size_t i = 0; i < n; i++) {
        say_bytes(wire + i, 1);
        usleep(100000);
    }
}

/* It hears all, and says nothing. */
static void play_silent(void)
{
    for (;;)
        hear();
}

/* It does not even read. */
static void play_deaf(void)
{
    for (;;)
        pause();
}

/* As much output as it has credit for, of each request, without end. */
static void play_endless(void)
{
    int64_t credit = FRAME_WINDOW;
    uint32_t stream = hear_open().stream;

    for (;;) {
        if (credit >= FRAME_PAYLOAD_MAX) {
            say(FRAME_DATA, stream, content, FRAME_PAYLOAD_MAX);
            credit -= FRAME_PAYLOAD_MAX;
            continue;
        }
        struct frame f = hear();

        if (f.type == FRAME_CREDIT && f.stream == stream)
            credit += le32_get(f.data);
        if (f.type == FRAME_OPEN) {
            stream = f.stream;
            credit = FRAME_WINDOW;
        }
        if (f.type == FRAME_CANCEL)
            say_text(FRAME_END, f.stream, "exit=0");
    }
}

/* D6: to every question that it is somebody else, has all there is, and that all is well. */
static void play_claims(void)
{
    static const char facts[] = "memory_total=18446744073709551616\nmemory_available=-1\nload1=1e400\nuptime=nan\ncpus=0\n"
        "hostname=still\naddress=10.99.0.1\nstate=running\nfs=/../../etc ext4 99999999999999999999 -5 0 0\n"
        "kernel=\33[2J\33]52;c;eA==\7\n\0\xff\xfe\xed\xa0\x80\nfs=\nfs=/ ext4\n=\n";

    for (;;) {
        uint32_t stream = hear_open().stream;

        say(FRAME_DATA, stream, facts, sizeof facts - 1);
        say_text(FRAME_END, stream, "exit=0\0hostname=still\0address=10.99.0.1");
        say_text(FRAME_END, stream, "exit=0");
        welcome();
    }
}

/* P1: text that would act on a terminal, in every place that is for text. */
static void play_text(void)
{
    static const char bad[] = "error=\33]0;owned\7\33[31m\r\n\xe2\x80\xae\xc0\x80\xff%n%s{\"error\":1}";

    say(FRAME_DATA, hear_open().stream, content, any(FRAME_PAYLOAD_MAX) + 1);
    say(FRAME_END, hear_open().stream, bad, sizeof bad);
    say(FRAME_BYE, 0, bad, sizeof bad);
}

static const struct { const char *name; void (*play)(void); } plays[] = {
    {"frames", play_frames}, {"flood", play_flood},   {"garbage", play_garbage}, {"slow", play_slow},
    {"silent", play_silent}, {"deaf", play_deaf},     {"endless", play_endless}, {"claims", play_claims},
    {"text", play_text},
};

/* ---- which one ---- */

/* Out of memory, as the real one runs. */
static void be_honest(char **argv)
{
    int file = open(DIR "vms-agent", O_RDONLY | O_CLOEXEC), memory = memfd_create("vms-agent", MFD_CLOEXEC);

    while (file >= 0 && memory >= 0 && sendfile(memory, file, NULL, 1 << 20) > 0)
        ;
    fexecve(memory, argv, environ);
    perror("hostile_agent: " DIR "vms-agent");
    exit(1);
}

int main(int argc, char **argv)
{
    char path[256] = DIR, word[32] = "";
    unsigned seed;
    int fd;

    (void)argc;
    gethostname(path + strlen(path), sizeof path - strlen(path) - 1);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || read(fd, word, sizeof word - 1) <= 0)
        be_honest(argv);
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed || getrandom(content, sizeof content, 0) < 0)
        return 1;
    srandom(seed);
    memcpy(content + any(sizeof content - 8), "\33[2J\xffVMS", 8);
    reader.nonce = nonce = hear().nonce;
    for (size_t i = 0; i < sizeof plays / sizeof *plays; i++)
        if (!strcmp(word, plays[i].name)) {
            welcome();
            plays[i].play();
        }
    return 0;
}
