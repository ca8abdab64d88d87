#!/usr/bin/python3
"""An SSH server for one user with one key, on a free port of 127.0.0.1, which forwards to Unix sockets and does nothing
else.

sshd.py DIR: DIR/key is the user's private key, DIR/known_hosts the server's, DIR/port its port; all made here."""
import asyncio
import sys

import asyncssh

DIR = sys.argv[1]


class Server(asyncssh.SSHServer):
    def unix_connection_requested(self, dest_path):
        return True


async def main():
    host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    user.write_private_key(f"{DIR}/key")
    user.write_public_key(f"{DIR}/authorized_keys")
    server = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[host],
                                          authorized_client_keys=f"{DIR}/authorized_keys")
    port = server.sockets[0].getsockname()[1]
    with open(f"{DIR}/known_hosts", "w") as f:
        f.write(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    with open(f"{DIR}/port", "w") as f:
        f.write(str(port))
    await server.wait_closed()


asyncio.run(main())
