"""What keeps a long run and its user safe: arguments, files, locks and a watch.

`arguments` checks what a public function is given before it begins, by the annotations that `kinds`
reads. `files` writes everything whole or not at all and removes nothing but what the package made;
`locks` lets one process at a time write a folder; a `watch` stops a computation cleanly before its
time is up; and `warn` warns at the line of whoever called. Every room above stands on this one, and
no chapter needs to read it.
"""

from lth_tutorial.safety.files import UncheckedFileWarning
from lth_tutorial.safety.watch import Stopped, Watch, watching

__all__ = ["UncheckedFileWarning", "Stopped", "Watch", "watching"]
