"""A Paramiko channel as a real socket, so that TLS can be done over it here."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

PIECE = 1 << 16


def tunnel(channel: Any) -> socket.socket:
    """Our end of a socket pair whose other end is the channel; it ends when either side does."""
    near, far = socket.socketpair()
    threading.Thread(target=_pump, args=(channel, far), daemon=True).start()
    threading.Thread(target=_pump, args=(far, channel), daemon=True).start()
    return near


def _pump(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    # The one that is done last closes both; closing twice does no harm.
    if isinstance(source, socket.socket):
        return
    with contextlib.suppress(OSError):
        sink.close()
    source.close()
