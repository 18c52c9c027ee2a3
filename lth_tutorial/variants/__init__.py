"""Variants of the hypothesis: one word of it changed at a time.

Chapters 9, 13 and 14 stand on this room. Its modules are read with their chapters, in any order;
each one builds on the pipeline before it, and none on another.
"""

__all__: list[str] = []
