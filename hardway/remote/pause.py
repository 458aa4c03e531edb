"""A daemon that stands still for a moment, so that it asks for nothing; it goes on by itself after a second."""

from __future__ import annotations

from dataclasses import dataclass

from hardway.errors import Mistake
from hardway.remote.channel import Channel, first_line


@dataclass(slots=True)
class Pause:
    """A daemon's main process in the hands of a shell beside it, which lets go whatever becomes of us."""

    channel: Channel

    def begin(self) -> None:
        """It stands still when this returns; a Mistake if that is not known."""
        try:
            self.channel.send(b".")
        except OSError as error:
            raise Mistake.at("", f"the connection was lost: {error}") from error
        if first_line(self.channel) != "paused":
            raise Mistake.at("", "it does not stand still")

    def end(self) -> None:
        """It goes on; the end of the connection says so too."""
        try:
            self.channel.send(b".")
        except OSError:
            return
        finally:
            self.channel.close()
