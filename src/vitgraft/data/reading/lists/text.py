"""The text of a list file, in whatever encoding a program wrote it, and its cells."""

import codecs
import csv
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from vitgraft.errors import DataError

MARKS = (  # bytes at the start of a file -> its encoding; the longer ones first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WESTERN = "cp1252"
DELIMITERS = ",;\t|"
EXCEL = "sep="  # Excel's own line on what follows


class Text(NamedTuple):
    """What a file says, and a sentence on its encoding where that was guessed."""

    content: str
    note: str | None = None


class Line(NamedTuple):
    """The cells of one line of a table, and its number in the file."""

    number: int
    cells: list[str]


def read_text(file: Path) -> Text:
    """A file's text: UTF-8, what its byte-order mark says, UTF-16 without one, or Windows' western encoding.

    Raises:
        DataError: a file that is missing, cannot be opened, or is no text.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no list '{file}'. Check the path.") from None
    except OSError as error:
        raise DataError(f"Cannot read list '{file}': {error.strerror}. Check the path.") from None
    marked = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None)
    encoding = marked or _unmarked(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{file}' is not UTF-8 text, nor {encoding} ({error.reason}). Save it as UTF-8."
        ) from None
    if any(ord(character) < ord(" ") and character not in "\t\n\r\f\v" for character in text):
        what = f"'{file}' is not UTF-8 text: it holds control characters, as binary files do"
        raise DataError(f"{what}. Save it as CSV, in UTF-8.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if encoding != WESTERN:
        return Text(text)
    foreign = next(line.strip() for line in text.split("\n") if not line.isascii())
    return Text(text, f"'{file}' is not UTF-8: it was read as {WESTERN} (Windows), so that a line is {foreign!r}.")


def _unmarked(content: bytes) -> str:
    """The encoding of a file without a byte-order mark."""
    if b"\0" in content:  # every second byte of most lists in UTF-16
        return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return WESTERN
    return "utf-8"


def table(file: Path, text: str) -> tuple[list[Line], str]:
    """The lines of a table that are not blank, each cell without spaces around it, and the delimiter.

    Raises:
        DataError: quotes that do not match.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    before = 0
    if first.lower().startswith(EXCEL) and len(first.strip()) == len(EXCEL) + 1:
        delimiter = first[len(EXCEL)]
        before = text[: text.index(first)].count("\n") + 1
        text = text.split("\n", before)[-1]
    else:
        delimiter = _delimiter(first, file.suffix.lower() == ".tsv")
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    lines = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                lines.append(Line(reader.line_num + before, [cell.strip() for cell in row]))
    except csv.Error as error:
        what = f"{file}:{reader.line_num + before}: {error}"
        raise DataError(f"{what}. Check the quotes of this line.") from None
    return lines, delimiter


def _delimiter(first: str, tabs: bool) -> str:
    """What stands between the values of a first line; quoted values do not count."""
    outside = "".join(first.split('"')[::2])
    if tabs and "\t" in outside:
        return "\t"
    best = max(DELIMITERS, key=outside.count)
    if best in outside:
        return best
    return "\t" if tabs else " " if len(first.split()) > 1 else ","  # columns that spaces line up
