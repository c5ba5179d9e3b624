"""Tar headers byte for byte as Go's `archive/tar` writes them, and where each member goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .layout import Member, Placement

BLOCK_BYTES = 512
END_BYTES = 2 * BLOCK_BYTES
"""Two zero blocks end the archive; Go doesn't pad it to 10240 as other writers do."""

_NAME_BYTES = 100
_PREFIX_BYTES = 155
_OCTAL_12_LIMIT = 8**11
_PAX_TYPE = b"x"


def place(members: Sequence[Member]) -> tuple[tuple[Placement, ...], int]:
    """Every member at its offset, and the size in bytes of the whole archive, end blocks included.

    Only members with bytes or a blob have data; data is padded with zeros to whole blocks.
    """
    placements = []
    offset = 0
    for member in members:
        header = header_of(member)
        data_offset = offset + len(header)
        placements.append(
            Placement(member=member, header=header, header_offset=offset, data_offset=data_offset)
        )
        offset = data_offset + padded(member.size_bytes)
    return tuple(placements), offset + END_BYTES


def padded(size_bytes: int) -> int:
    """`size_bytes` rounded up to whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def header_of(member: Member) -> bytes:
    """The member's header block, with a PAX header in front where ustar can't say it.

    That is: a name that can't be split at a slash, a link over 100 bytes, a size of 8 GiB or more, a time
    from the year 2242 on.
    """
    name, link = member.name.encode(), member.link_target.encode()
    records: dict[str, bytes] = {}
    split = (b"", name)
    needs_pax = False
    if len(name) > _NAME_BYTES:
        records["path"] = name
        split_name = _split(name)
        needs_pax = split_name is None
        split = split_name or split
    if len(link) > _NAME_BYTES:
        records["linkpath"] = link
        needs_pax = True
    for key, number in (("size", member.size_bytes), ("mtime", member.mtime_s)):
        if number >= _OCTAL_12_LIMIT:
            records[key] = str(number).encode()
            needs_pax = True
    prefix, short = (b"", name[:_NAME_BYTES]) if needs_pax else split
    header = _block(
        name=short,
        mode=member.mode,
        size_bytes=member.size_bytes,
        mtime_s=member.mtime_s,
        typeflag=member.kind.value.encode(),
        link=link[:_NAME_BYTES],
        device=b"0000000\0",
        prefix=prefix,
    )
    return _pax(name, records) + header if needs_pax else header


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Go's `splitUSTARPath`: the last slash that leaves 155 bytes in front and 100 behind."""
    end = min(len(name), _PREFIX_BYTES + 1)
    if end == len(name) and name.endswith(b"/"):
        end -= 1
    slash = name.rfind(b"/", 0, end)
    rest = len(name) - slash - 1
    if slash <= 0 or rest > _NAME_BYTES or rest == 0 or slash > _PREFIX_BYTES:
        return None
    return name[:slash], name[slash + 1 :]


def _pax(name: bytes, records: Mapping[str, bytes]) -> bytes:
    data = b"".join([_record(key.encode(), records[key]) for key in sorted(records)])
    directory, _, last = name.rpartition(b"/")
    pax_name = b"/".join(part for part in (directory, b"PaxHeaders.0", last) if part)
    header = _block(
        name=pax_name[:_NAME_BYTES].rstrip(b"/"),
        mode=0,
        size_bytes=len(data),
        mtime_s=0,
        typeflag=_PAX_TYPE,
        link=b"",
        device=b"",
        prefix=b"",
    )
    return header + data + bytes(padded(len(data)) - len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value` and a newline, the length counting itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _octal(number: int, digits: int) -> bytes:
    """Zero where the number doesn't fit: a PAX record then says it."""
    return b"%0*o\0" % (digits, number if 0 <= number < 8**digits else 0)


def _block(
    *,
    name: bytes,
    mode: int,
    size_bytes: int,
    mtime_s: int,
    typeflag: bytes,
    link: bytes,
    device: bytes,
    prefix: bytes,
) -> bytes:
    before = name.ljust(100, b"\0") + _octal(mode, 7) + b"0000000\0" * 2
    before += _octal(size_bytes, 11) + _octal(mtime_s, 11)
    owner = bytes(64)
    after = typeflag + link.ljust(100, b"\0") + b"ustar\x0000" + owner
    after += (device.ljust(8, b"\0") * 2 + prefix.ljust(155, b"\0")).ljust(183, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after
