"""A model as a script: one file, readable from top to bottom, that fits it again from the stored rows.

`source_lines` writes Python source, `features` and `fits` the functions of a script; `blocks` has those that are copied
into it, and `script_writer` puts all in order. `mlsys.workflow.scripts` collects what a script needs of the store.
"""

from __future__ import annotations

from mlsys.script.script_writer import Facts, Script, check, write

__all__ = ["Facts", "Script", "check", "write"]
