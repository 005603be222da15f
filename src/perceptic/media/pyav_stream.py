"""One open container and its video decoder: packets in file order, seeking, decoding, errors made `MediaError`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream as LibavStream

from perceptic.errors import MediaError
from perceptic.media.frame_table import PacketFacts, Segment

VideoSource = Path | bytes

# What counts as a video file. Without a list libav also takes text files (as terminal art) and playlists, which name
# other files and addresses to open.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,asf_o,gif,apng,h264,hevc,m4v,mpegvideo,"
    "ivf,obu,mjpeg,mxf,nut,yuv4mpegpipe,dv,rm,3dostr,wtv,vc1"
)

# Codecs whose "no other frame refers to this one" mark is strict, so that such frames can be left out. In HEVC the
# mark only covers frames of the same temporal layer.
_SKIPPABLE = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video"})

# After this many packets without the wanted keyframe, a seek has gone astray.
_NEAR_PACKETS = 400

# libav errors, and what PyAV itself raises on streams it cannot represent.
_DECODE_ERRORS = (av.error.FFmpegError, ValueError, RuntimeError, MemoryError, OSError, EOFError)


class CodecMissingError(MediaError):
    """A sound file whose codec this build of PyAV cannot decode; another reader may."""


class SeekError(Exception):
    """The keyframe could not be found again by seeking (internal: the reader falls back to reading everything)."""


class PyavStream:
    """The first real video stream of a file. Not for sharing between threads."""

    def __init__(self, source: VideoSource, name: str, *, num_threads: int, max_pixels: int) -> None:
        self._source, self._name = source, name
        self._num_threads, self._max_pixels = num_threads, max_pixels
        self._packets: Generator[Packet[LibavStream], None, None]
        self._position = 0  # place in the file of the next packet
        self._open()

    def close(self) -> None:
        self._packets.close()
        self._container.close()

    @property
    def time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, 1000)

    @property
    def width(self) -> int:
        return self._stream.codec_context.width

    @property
    def height(self) -> int:
        return self._stream.codec_context.height

    @property
    def codec(self) -> str:
        return self._stream.codec_context.name

    @property
    def average_rate(self) -> float:
        """Frames per second as the container states or implies them; 0 if it does not."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    @property
    def states_display_times(self) -> bool:
        """AVI stores decoding times only; with reordered pictures libav's guesses at display times are wrong."""
        return self._container.format.name != "avi" or not self._stream.codec_context.has_b_frames

    @property
    def num_packets_read(self) -> int:
        return self._position

    def packet_facts(self) -> Iterator[PacketFacts]:
        """Facts of every packet from the current position on; a damaged rest of the file ends it."""
        for packet in self._read():
            # A packet that is cut off (the end of a truncated file) is no frame: what it decodes to is chance.
            shown = not (packet.is_discard or packet.is_corrupt or self._is_invisible(packet))
            yield PacketFacts(packet.pts, packet.dts, packet.is_keyframe, shown)

    def restart(self) -> None:
        """Back to the first packet, whether or not the container can seek."""
        self.close()
        self._open()

    def decode_all(self) -> Iterator[VideoFrame]:
        """Every frame from the current position on, in presentation order. Damaged packets are stepped over."""
        for packet in self._read():
            yield from self._decode(packet)
        yield from self._decode(None)

    def decode_segment(self, segment: Segment) -> Iterator[VideoFrame]:
        """The wanted frames of a segment, as they come out of the decoder. Some may be missing: the caller counts.

        Raises:
            SeekError: the segment's keyframe was not found.
        """
        missing = set(segment.wanted)
        unsent = len(missing)
        for packet in self._packets_from(segment):
            is_wanted = packet.pts in missing
            self._skip_unreferenced(not is_wanted)
            unsent -= is_wanted
            for frame in self._decode(packet):
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
            if not unsent:
                break
        # Everything wanted is inside the decoder now: take it out instead of feeding frames nobody asked for.
        for frame in self._decode(None):
            if frame.pts in missing:
                missing.discard(frame.pts)
                yield frame
        self._stream.codec_context.flush_buffers()

    def _packets_from(self, segment: Segment) -> Iterator[Packet[LibavStream]]:
        """Packets from the segment's keyframe on, as many as it needs at most."""
        for packet in self._keyframe_then_rest(segment):
            yield packet
            if self._position >= segment.first_packet + segment.num_packets:
                return

    def _keyframe_then_rest(self, segment: Segment) -> Iterator[Packet[LibavStream]]:
        if not (0 <= segment.first_packet - self._position <= _NEAR_PACKETS):
            self._seek(segment.seek_to)
        for attempt in range(2):
            for skipped, packet in enumerate(self._read()):
                if packet.is_keyframe and packet.pts == segment.keyframe_pts:
                    self._position = segment.first_packet + 1
                    yield packet
                    yield from self._read()
                    return
                if attempt == 0 and skipped > _NEAR_PACKETS:
                    break
            # The container's index led elsewhere. Reading from the start without decoding always gets there.
            if attempt == 0:
                self.restart()
        raise SeekError(segment.keyframe_pts)

    def _seek(self, ticks: int) -> None:
        try:
            self._container.seek(ticks, stream=self._stream, backward=True)
        except _DECODE_ERRORS:
            self.restart()
        else:
            self._packets.close()
            self._packets = self._demux()
            self._position = 1 << 62  # unknown until the keyframe is met

    def _read(self) -> Iterator[Packet[LibavStream]]:
        for packet in self._packets:
            self._position += 1
            yield packet

    def _demux(self) -> Generator[Packet[LibavStream], None, None]:
        # Reading stops at the first unreadable byte, as at the end of the file: what came before is good.
        with contextlib.suppress(*_DECODE_ERRORS):
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet

    def _decode(self, packet: Packet[LibavStream] | None) -> list[VideoFrame]:
        try:
            return self._stream.codec_context.decode(packet)
        except _DECODE_ERRORS:  # a damaged packet; the next ones may be good
            return []

    def _skip_unreferenced(self, skip: bool) -> None:
        if self.codec in _SKIPPABLE:
            self._stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"

    def _is_invisible(self, packet: Packet[LibavStream]) -> bool:
        """VP8 stores reference pictures that are never shown as packets of their own (RFC 6386, section 9.1)."""
        return self.codec == "vp8" and not (memoryview(packet)[0] >> 4) & 1

    def _open(self) -> None:
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        target = io.BytesIO(self._source) if isinstance(self._source, bytes) else f"file:{self._source}"
        try:
            self._container = av.open(target, mode="r", options=options, metadata_errors="replace")
        except _DECODE_ERRORS as error:
            raise MediaError(self._name, f"not a readable video: {short_reason(error)}") from error
        try:
            self._stream = self._choose_stream()
        except MediaError:
            self._container.close()
            raise
        self._packets = self._demux()
        self._position = 0

    def _choose_stream(self) -> LibavStream:
        # A picture stored beside music (a cover) is a video stream to libav.
        cover = av.stream.Disposition.attached_pic
        videos = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not videos:
            raise MediaError(self._name, "has no video stream")
        stream = videos[0]
        context = stream.codec_context
        if context is None:
            raise CodecMissingError(self._name, "its video codec is unknown to this PyAV")
        if context.width * context.height > self._max_pixels:
            size = f"{context.width} x {context.height}"
            raise MediaError(self._name, f"frames of {size} pixels are above the limit of {self._max_pixels:,} pixels")
        context.thread_count = self._num_threads
        context.thread_type = "AUTO" if self._num_threads > 1 else "NONE"
        # The picture size inside the compressed stream can be another than the container's.
        context.options = {**context.options, "max_pixels": str(self._max_pixels)}
        return stream


def short_reason(error: BaseException) -> str:
    """One line of a libav error without its file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:120]
