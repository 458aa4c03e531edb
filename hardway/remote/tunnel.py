"""A Paramiko channel as a real socket, so that TLS can be done over it here."""

from __future__ import annotations

import contextlib
import socket
import threading

from hardway.remote.channel import Wire

PIECE = 1 << 16


def tunnel(channel: Wire) -> socket.socket:
    """Our end of a socket pair whose other end is the channel; both end when either side does."""
    near, far = socket.socketpair()
    outward = threading.Thread(target=_pump, args=(far, channel), daemon=True)
    outward.start()
    threading.Thread(target=_inward, args=(channel, far, outward), daemon=True).start()
    return near


def _inward(channel: Wire, far: socket.socket, outward: threading.Thread) -> None:
    _pump(channel, far)
    outward.join()
    far.close()
    with contextlib.suppress(OSError, EOFError):
        channel.close()


def _pump(source: Wire, sink: Wire) -> None:
    # EOFError: what Paramiko raises on a connection that is gone.
    with contextlib.suppress(OSError, EOFError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError, EOFError):
        sink.shutdown(socket.SHUT_WR)
