"""torch's zip archives, checked to the last byte before torch's reader sees one.

torch's reader believes the table at the end of the file: with one byte of it changed, weights come from another place
in the file. `torch.save` writes exactly one archive for given names, contents and paddings, so the archive is derived
again from these, record by record, and compared with the bytes that are there; contents by their check sums.

    record:  local header, name, (64-bit sizes,) padding; content; its check sum and size, unless it is empty
    table:   for each record a header, name, (64-bit sizes and place)
    end:     where the table is and how long, in 64 bits and in 32
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from lightkit.checkpoint.atomic import size_text

MAGIC = b"PK\x03\x04"
NOTE = b"archive/extra/lightkit.json"  # beside torch's records, which passes over it

_LOCAL = struct.Struct("<4s5H3I2H")
_TABLE = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4sQ2H2I4Q" + "4sIQI" + "4s4H2IH")
_TEXT, _SUMS_FOLLOW = 1 << 11, 1 << 3  # flags: names are utf-8; check sum and size stand behind the content
_SIGN = b"PK\x01\x02", b"PK\x07\x08", b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06"
_MOST, _MOST_ENTRIES = 0xFFFFFFFF, 0xFFFF  # what stands in 32 and 16 bits for "see the 64 bits"
_CHUNK = 1 << 20


def damage(file: BinaryIO, size: int) -> str | None:
    """Say what is wrong with an archive of `size` bytes, or None where every byte is as torch.save writes it.

    Reads all of it, at about 5 GB/s once it is in memory. What reading raises (OSError) passes.
    """
    try:
        return _check(file, size)
    except (_Different, struct.error, UnicodeDecodeError):  # the last two: a table that promises more than there is
        problem = "its table of contents is not as torch.save writes it: it was changed afterwards, or another program"
        return f"{problem} wrote it ({size_text(size)})"


def append(file: BinaryIO, name: bytes, content: bytes) -> None:
    """Add a record, in torch's form, to an archive that torch.save has just written; open for reading, too."""
    end = _read(file, file.seek(0, 2) - _END.size, _END.size)
    count, table_size, place = _END.unpack(end)[7:10]
    table = _read(file, place, table_size)
    crc, padding = zlib.crc32(content), 4 + -(_LOCAL.size + len(name) + 4) % 64  # contents begin at multiples of 64
    record = _head(name, len(content), place, padding) + content + _tail(crc, len(content), place)
    table += _entry(name, crc, len(content), place)
    file.seek(place)
    file.write(record + table + _end(count + 1, len(table), place + len(record)))


class _Different(Exception):
    """These bytes are not those that torch.save writes."""


def _expect(found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise _Different


def _check(file: BinaryIO, size: int) -> str | None:
    end = _read(file, max(size - _END.size, 0), _END.size)
    if len(end) < _END.size or end[-22:-18] != _SIGN[4]:
        return f"it is truncated ({size_text(size)} of it are there)"
    count, table_size, table_start = _END.unpack(end)[7:10]
    _expect(end, _end(count, table_size, table_start))
    if table_start + table_size + _END.size != size:
        raise _Different
    table, place, at = _read(file, table_start, table_size), 0, 0
    names: set[bytes] = set()
    for _ in range(count):
        name, crc, content = _read_entry(table, at)
        entry = _entry(name, crc, content, place)
        _expect(table[at : at + len(entry)], entry)
        record = _check_record(file, name, crc, content, place)
        if record is None:
            part = f"the part {name.decode()!r} of it was changed after it was written"
            return f"{part} (wrong check sum; {size_text(size)})"
        names.add(name)
        place, at = place + record, at + len(entry)
    if (place, at, len(names)) != (table_start, table_size, count):
        raise _Different
    is_torchs = any(name.endswith(b"data.pkl") for name in names)
    return None if is_torchs else "it is a zip archive, but not one that torch.save wrote"


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _read_entry(table: bytes, at: int) -> tuple[bytes, int, int]:
    """The name, check sum and size of content that an entry of the table gives."""
    fields = _TABLE.unpack_from(table, at)
    after = at + _TABLE.size + fields[10]
    content = struct.unpack_from("<Q", table, after + 4)[0] if fields[9] == _MOST else fields[9]
    return table[at + _TABLE.size : after], fields[7], content


def _check_record(file: BinaryIO, name: bytes, crc: int, content: int, place: int) -> int | None:
    """-> the size of the whole record; None where its content has another check sum."""
    padding = _LOCAL.unpack(_read(file, place, _LOCAL.size))[10] - len(_large(content, place))
    head, tail = _head(name, content, place, padding), _tail(crc, content, place)
    _expect(_read(file, place, len(head)), head)
    if _crc(file, place + len(head), content) != crc:
        return None
    _expect(file.read(len(tail)), tail)
    return len(head) + content + len(tail)


def _large(content: int, place: int, *, is_local: bool = False) -> bytes:
    """The field of 64-bit numbers, for those that 32 bits do not hold; a local one gives the size stored as 0."""
    sizes = [content, 0 if is_local else content] if content >= _MOST else []
    numbers = [*sizes, *([place] if place >= _MOST else [])]
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _head(name: bytes, content: int, place: int, padding: int) -> bytes:
    large = _large(content, place, is_local=True)
    header = _LOCAL.pack(MAGIC, 0, _flags(content), 0, 0, 0, 0, 0, 0, len(name), len(large) + padding)
    return header + name + large + b"FB" + struct.pack("<H", padding - 4) + b"Z" * (padding - 4)


def _tail(crc: int, content: int, place: int) -> bytes:
    sizes = "2Q" if _large(content, place) else "2I"
    return struct.pack("<4sI" + sizes, _SIGN[1], crc, content, content) if content else b""


def _entry(name: bytes, crc: int, content: int, place: int) -> bytes:
    large, shown = _large(content, place), min(content, _MOST)
    numbers = (0, 0, _flags(content), 0, 0, 0, crc, shown, shown, len(name), len(large), 0, 0, 0, 0)
    return _TABLE.pack(_SIGN[0], *numbers, min(place, _MOST)) + name + large


def _end(count: int, table_size: int, table_start: int) -> bytes:
    in_64_bits = (_SIGN[2], 44, 0x031E, 45, 0, 0, count, count, table_size, table_start)
    locator = (_SIGN[3], 0, table_start + table_size, 1)
    few = min(count, _MOST_ENTRIES)
    in_32_bits = (_SIGN[4], 0, 0, few, few, min(table_size, _MOST), min(table_start, _MOST), 0)
    return _END.pack(*in_64_bits, *locator, *in_32_bits)


def _flags(content: int) -> int:
    return _TEXT | _SUMS_FOLLOW if content else _TEXT


def _crc(file: BinaryIO, start: int, count: int) -> int:
    """The check sum of a stretch of the file; what is missing of it makes another one."""
    file.seek(start)
    crc = 0
    while count > 0 and (chunk := file.read(min(count, _CHUNK))):
        crc, count = zlib.crc32(chunk, crc), count - len(chunk)
    return crc
