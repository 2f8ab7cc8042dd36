"""Messages (EML): who, to whom, when, about what, and the text. Attachments are named, not read."""

from __future__ import annotations

import email.errors
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from email.parser import BytesParser

from likewise.ingest.parsing.html import parse_html
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer
from likewise.ingest.parsing.texts import decode

__all__ = ["is_mail", "parse_mail"]

_HEADER = re.compile(rb"(?:[!-9;-~]{1,100}):[ \t]?[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_TELLING = frozenset(
    b"from to cc subject date message-id received mime-version return-path delivered-to reply-to content-type".split()
)


def is_mail(data: bytes) -> bool:
    """Whether the bytes begin with the headers of a message: one of sender or message id, and two more that mails have."""
    names: set[bytes] = set()
    head, position = data[:16_384], 0
    if head.startswith(b"From "):  # of a mailbox
        position = head.find(b"\n") + 1
    while match := _HEADER.match(head, position):
        names.add(match[0].split(b":", 1)[0].lower())
        position = match.end()
    return len(names & _TELLING) >= 3 and bool(names & {b"from", b"message-id", b"received"})


def parse_mail(data: bytes, limits: Limits) -> Parsed:
    """A message's subject, people, date and text; its HTML where it has no plain text."""
    try:
        message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(data)
        head = {
            name: _header(message, name)
            for name in ("subject", "from", "to", "cc", "date", "keywords", "content-language")
        }
        plain, rich, attached = _bodies(message, limits)
    except (email.errors.MessageError, ValueError, LookupError, AttributeError, IndexError, TypeError) as error:
        raise Unreadable(f"the message is damaged ({error})", stage="parsing") from error
    except RecursionError as error:
        raise Unreadable("its messages are nested too deep", stage="parsing") from error
    out = Writer(limits)
    for label in ("subject", "from", "to", "cc", "date"):
        if head[label]:
            out.write(f"{label.capitalize()}: {head[label]}\n")
    out.write("\n" + "\n\n".join(plain or rich).strip() + "\n")
    if attached:
        out.write("\nAttachments: " + ", ".join(attached) + "\n")
    return Parsed(
        text=out.text().strip().replace("\x00", ""),
        media_type="message/rfc822",
        title=head["subject"] or None,
        author=head["from"] or None,
        language=head["content-language"] or None,
        created=_date(message),
        keywords=tuple(word.strip() for word in head["keywords"].split(",") if word.strip()),
    )


def _bodies(message: EmailMessage, limits: Limits) -> tuple[list[str], list[str], list[str]]:
    """The plain texts, the HTML's texts, and the names of what is attached."""
    plain: list[str] = []
    rich: list[str] = []
    attached: list[str] = []
    for part in _parts(message, limits):
        name = part.get_filename()
        if name or part.get_content_disposition() == "attachment":
            attached.append(" ".join((name or "unnamed").split())[:200])
            continue
        if part.get_content_type() in ("text/plain", "text/html"):
            text = _text(part)
            if part.get_content_type() == "text/plain":
                plain.append(text)
            else:
                rich.append(parse_html(text, limits).text)
    return [text for text in plain if text.strip()], rich, attached


def _parts(message: Message, limits: Limits) -> Iterator[Message]:
    """The parts that hold something, in order, without recursion."""
    pending: list[tuple[Message, int]] = [(message, 0)]
    while pending:
        part, depth = pending.pop()
        if depth > min(limits.depth, 64):
            raise Unreadable("its messages are nested too deep", stage="parsing")
        payload = part.get_payload()
        if part.is_multipart() and isinstance(payload, list):
            pending.extend((inner, depth + 1) for inner in reversed(payload) if isinstance(inner, Message))
        else:
            yield part


def _text(part: Message) -> str:
    """A part's text, by the character set that it states, or whatever it is."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or not payload:
        return ""
    charset = part.get_content_charset()
    try:
        return payload.decode(charset or "utf-8")
    except (LookupError, UnicodeError):
        return decode(payload)[0]


def _header(message: EmailMessage, name: str) -> str:
    value = str(message.get(name, ""))
    return " ".join(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())


def _date(message: EmailMessage) -> str | None:
    when = getattr(message.get("date"), "datetime", None)
    return None if when is None else str(when.isoformat())
