"""Which engines segment: FSL where it is installed, the built-in ones, or any program by a template."""

import os

from sn2nlib.errors import ProfileError
from sn2nlib.evaluation.volumetry.command import CommandSegmenter, load_template
from sn2nlib.evaluation.volumetry.engine import Segmenter
from sn2nlib.evaluation.volumetry.fsl import Fast, First, fsl_lacks
from sn2nlib.evaluation.volumetry.subcortical import AtlasSubcortical
from sn2nlib.evaluation.volumetry.tissue import MarkovTissues

SETTINGS = ("auto", "built-in", "fsl")
SECOND = "subcortical_second"
_SECOND_ATLAS = "desikan_killiany"  # no digital head was made with it


def choose_engines(setting: str = "auto") -> dict[str, Segmenter]:
    """The engines of a study, by kind.

    Parameters
    ----------
    setting
        "auto": FSL where `$FSLDIR` holds its programs, else the built-in engines; "built-in"; "fsl"; or the path of a
        command template (.yaml).

    Returns
    -------
    "tissue", "subcortical" → engine; of a template, the kinds it gives.

    Raises
    ------
    ProfileError
        For another word, or a template with faults.
    SegmentationError
        If what was asked for is not installed.
    """
    if setting == "auto":
        setting = "built-in" if fsl_lacks() else "fsl"
    if setting == "built-in":
        return {"tissue": MarkovTissues(), "subcortical": AtlasSubcortical()}
    if setting == "fsl":
        return {"tissue": Fast(), "subcortical": First()}
    if not setting.endswith((".yaml", ".yml")):
        known = ", ".join(map(repr, SETTINGS))
        raise ProfileError(f"there is no engine {setting!r}; known are {known}, or name a command template (.yaml)")
    template = load_template(os.path.expanduser(setting))
    return {kind: CommandSegmenter(template, kind) for kind in template.kinds}


def second_atlas(engines: dict[str, Segmenter]) -> dict[str, Segmenter]:
    """The same subcortical engine with another atlas, where it has one: for the comparison with true labels.

    The structures of digital heads come from the Harvard–Oxford atlas. An engine that uses it too finds them more
    easily than a patient's; one with another atlas draws other boundaries, and is no bound.

    Returns
    -------
    "subcortical_second" → engine; empty for engines without an atlas.
    """
    first = engines.get("subcortical")
    if isinstance(first, AtlasSubcortical) and first.atlas != _SECOND_ATLAS:
        return {SECOND: AtlasSubcortical(atlas=_SECOND_ATLAS)}
    return {}


def told(segmenters: dict[str, Segmenter]) -> dict[str, str]:
    """What stands on every table and figure, by kind: "FSL FAST 6.0.7.4"; with the engine's note in brackets."""
    return {kind: engine_name(each.name, each.version, each.note) for kind, each in segmenters.items()}


def engine_name(name: str, version: str, note: str = "") -> str:
    """Name and version of an engine, with what its note says beyond the name."""
    more = [part for part in note.split("; ") if part and part not in name]
    return f"{name}, {version}" + (f" ({'; '.join(more)})" if more else "")
