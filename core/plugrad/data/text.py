"""Text, character by character, for models that predict the next one."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad.data._generator import check_int
from plugrad.data.dataset import Dataset, check_index, check_indices
from plugrad.errors import ArgumentError, DataError, DTypeError

__all__ = ["TextDataset"]

Array = np.ndarray[Any, Any]


class TextDataset(Dataset):
    """Windows of a text as numbers, each with the window one character further on: what is to be predicted.

    Example i is (text[s : s + length], text[s + 1 : s + 1 + length]) with s = i * stride, each int64 of shape
    (length,); a batch of N is two arrays of shape (N, length). Characters are Unicode code points, numbered
    in the order of the vocabulary.

    Args:
        text: the text, of at least length + 1 characters.
        length: characters per window, at least 1.
        stride: characters from the start of one window to that of the next; None is ``length``, which takes
            each character about once.
        vocabulary: the characters that may occur, each once; None is those of ``text`` in the order of their
            code points. Text held back for validation takes the vocabulary of the text trained on.

    Attributes:
        length: characters per window.
        stride: characters from window to window.
        vocabulary: the characters; the number of each is its place.

    Raises:
        DataError: if the text is too short, or holds a character that the vocabulary lacks.
        ArgumentError: for a length or stride below 1, or a vocabulary that repeats a character.
    """

    length: int
    stride: int
    vocabulary: str

    def __init__(
        self, text: str, length: int, *, stride: int | None = None, vocabulary: str | None = None
    ) -> None:
        self.length = check_int("TextDataset: length", length, 1)
        self.stride = self.length if stride is None else check_int("TextDataset: stride", stride, 1)
        codes = _codes("TextDataset: text", text)
        if len(codes) <= self.length:
            raise DataError(
                f"TextDataset: got a text of {len(codes)} characters, "
                f"takes at least length + 1 = {self.length + 1}"
            )
        if vocabulary is None:
            vocabulary = "".join(map(chr, np.unique(codes)))
        known = _codes("TextDataset: vocabulary", vocabulary)
        if len(np.unique(known)) < len(known):
            raise ArgumentError(
                f"TextDataset: the vocabulary {vocabulary!r} repeats a character; takes each once"
            )
        self.vocabulary = vocabulary
        self._by_code = np.argsort(known)
        self._known = known[self._by_code]
        self._numbers = self.encode(text)

    def __len__(self) -> int:
        return (len(self._numbers) - self.length - 1) // self.stride + 1

    def __getitem__(self, index: int, /) -> tuple[Array, Array]:
        start = check_index("TextDataset", index, len(self)) * self.stride
        window = self._numbers[start : start + self.length + 1]
        return window[:-1], window[1:]

    def take(self, indices: Any, /) -> tuple[Array, Array]:
        """The windows ``indices`` as two arrays of shape (N, length); see `Dataset.take`."""
        starts = check_indices("TextDataset.take", indices, len(self)) * self.stride
        windows = self._numbers[starts[:, np.newaxis] + np.arange(self.length + 1)]
        return windows[:, :-1], windows[:, 1:]

    def encode(self, text: str) -> Array:
        """The numbers of the characters of ``text``, int64 of shape (len(text),).

        Raises:
            DataError: if the vocabulary lacks one.
        """
        codes = _codes("TextDataset.encode", text)
        places = np.searchsorted(self._known, codes)
        found = places < len(self._known)
        found[found] = self._known[places[found]] == codes[found]
        if not found.all():
            at = int(np.argmin(found))
            raise DataError(f"TextDataset: the vocabulary lacks {text[at]!r}, character {at} of the text")
        numbers: Array = self._by_code[places].astype(np.int64, copy=False)
        numbers.flags.writeable = False
        return numbers

    def decode(self, numbers: Any) -> str:
        """The text that ``numbers``, integers of shape (N,), stand for.

        Raises:
            IndexRangeError: if one is outside the vocabulary.
        """
        return "".join(
            self.vocabulary[i] for i in check_indices("TextDataset.decode", numbers, len(self.vocabulary))
        )


def _codes(what: str, text: Any) -> Array:
    """The code points of ``text``."""
    if not isinstance(text, str):
        raise DTypeError(f"{what}: got {type(text).__name__}, takes str")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
