"""
Fuzzing: bytes that nobody would send, against everything that reads what a peer sends.

Rule: an input is accepted, or refused with a clean protocol error. Anything else, an exception most of all, is a find.

`python -m fuzz` lets libFuzzer (atheris) look for such bytes; `tests/test_fuzz_corpus.py` runs the same targets over
the committed corpus, and over what Hypothesis makes of it, without atheris. See README.md.
"""

from __future__ import annotations
