"""What differs from the paper, and why: rows of the manifest, filled in with what this study did."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sn2nlib.errors import ManifestError
from sn2nlib.reporting import page
from sn2nlib.reporting.chapters import Chapter, Material
from sn2nlib.reporting.demographics import SET_NAMES
from sn2nlib.reporting.volumetry_chapter import engines
from sn2nlib.reporting.wording import listed
from sn2nlib.scans.black_blood import AT_REST, VOXEL
from sn2nlib.scans.details import load_lesions, load_structures
from sn2nlib.scans.manifest import manifest_folder
from sn2nlib.scans.sequence import Space

_SIZE = "what runs on a laptop; profile “paper” has the paper’s"
_NOT_YET = "not known: the notebook has not run"


def differences(material: Material) -> Chapter:
    """The chapter “What differs from the paper, and why”, and what does not agree within the paper itself.

    Raises
    ------
    ManifestError
        If a row asks for something that is not known.
    """
    rows = filled(material.published.differences, facts(material))
    rows.columns = ["Topic", "In the paper", "Here", "Why"]
    content = page.table(rows, caption="This study beside the paper")
    contradictions = material.published.inconsistencies.rename(
        columns={"topic": "Topic", "first": "Here it says", "second": "There it says", "comment": "Comment"}
    )
    content += "<h3>What does not agree within the paper</h3>\n"
    content += page.table(contradictions, caption="Statements of the paper that do not agree with each other")
    return "differences", "What differs from the paper, and why", content


def filled(rows: pd.DataFrame, known: Mapping[str, str]) -> pd.DataFrame:
    """Rows of ``differences.csv`` with their {places} filled in.

    Raises
    ------
    ManifestError
        If a row asks for something that is not known.
    """
    try:
        return rows.map(lambda text: str(text).format_map(known))
    except (KeyError, ValueError) as error:
        known_names = ", ".join(sorted(known))
        raise ManifestError(f"differences.csv asks for {error}, which is not known; known are {known_names}") from error


def facts(material: Material) -> dict[str, str]:
    """What this study did, in words: the names that rows of ``differences.csv`` may use.

    Parameters
    ----------
    material
        Settings, participants and tables of the report.
    """
    settings, people = material.settings, material.participants
    scanner, noise, recon = (settings[name] for name in ("acquisition", "noise", "recon"))
    network, training, slab = (settings[name] for name in ("network", "training", "vessel_wall"))
    counts = people.groupby("set", sort=False).size()
    real = people.loc[people["kind"] == "real", "participant"].tolist()
    shift, partial, extra = scanner["caipi_shift"], scanner["partial_fourier"], training["extra_noise"]
    view = [n * size for n, size in zip(slab["matrix"], VOXEL, strict=True)]
    manifest = manifest_folder()
    put = [each.name.replace("_", " ") for each in load_structures(manifest) if each.use == "inserted"]
    inserted = list(dict.fromkeys(put))
    alpha = material.model.get("alpha")
    return {
        "participants": ", ".join(f"{SET_NAMES.get(str(name), str(name)).lower()} {n}" for name, n in counts.items()),
        "real": f", and the image of a real head ({', '.join(real)})" if real else "",
        "inserted": listed(inserted),
        "lesions": str(sum(name in set(people["participant"]) for name in load_lesions(manifest))),
        "readers": _readers(material.tables),
        "matrix": _by(scanner["matrix"]),
        "voxel": _by(scanner["voxel_size"]),
        "size_reason": "as in the paper" if scanner["coils"] >= 64 else _SIZE,
        "coils": str(scanner["coils"]),
        "acceleration": _by(scanner["acceleration"]),
        "caipi": f" with CAIPIRINHA shift {shift}" if shift else "",
        "acs": str(scanner["acs"]),
        "partial": "" if min(partial) == 1 else f", partial Fourier {_by(partial)} (ky, kz)",
        "target_psnr": _between(noise["target_psnr"], " ± "),
        "training_ratio": _between(noise["training_ratio"], " to "),
        "ridge": f"{recon['ridge']:g}",
        "window": str(recon["window"]),
        "depth": str(network["depth"]),
        "width": str(network["width"]),
        "loss": str(training["loss"]).upper(),
        "rate": f"{training['learning_rate']:g}",
        "steps": str(training["steps"]),
        "batch": str(training["batch"]),
        "patch": str(training["patch"]),
        "extra": f", inputs with extra noise of up to {extra:g} of the intensity scale" if extra else "",
        "alpha": "" if alpha is None else f": {alpha:.2f}",
        "engines": _engines(material.tables),
        "vwi_view": "×".join(f"{length:.0f}" for length in view),
        "vwi_coils": str(slab["coils"]),
        "vwi_noise": f"{slab['noise_ratio']:g}",
        "vwi_csf": f"{100 * AT_REST['csf']:.0f} %",
        "vwi_blood": f"{100 * AT_REST['vessel']:.0f} %",
        "vwi_train": "on" if Space().blur else "off",
        "vwi_learnt": f"{slab['fine_tuning_scans']}",
        "weights": _weights(material.tables, settings),
    }


def _readers(tables: Mapping[str, pd.DataFrame]) -> str:
    if "readers" not in tables:
        return _NOT_YET
    names = tables["readers"]["reader"].nunique()
    kinds = set(tables["readers"]["source"])
    return f"{names} {'synthetic readers, a model observer' if kinds == {'synthetic'} else 'human readers'}"


def _engines(tables: Mapping[str, pd.DataFrame]) -> str:
    if "volumetry_engines" not in tables:
        return _NOT_YET
    told = engines(tables["volumetry_engines"])
    return "; ".join(f"{kind.replace('_', ' ')}: {name}" for kind, name in told.items())


def _weights(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    found = tables["kappa"]["weights"].dropna() if "kappa" in tables else pd.Series(dtype=str)
    return str(found.iloc[0]) if len(found) else str(settings["readers"]["weights"])


def _between(values: Any, word: str) -> str:
    return word.join(f"{value:g}" for value in values)


def _by(values: Any) -> str:
    return _between(values, " × ")
