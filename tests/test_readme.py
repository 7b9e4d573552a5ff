"""The numbers of the README's prose, and of docs/, are those of the committed report's tables, sentence by sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "demo"
LEVELS = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
SETS = {"digital": "quantitative", "S1": "real_head"}


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(REPORT / "tables" / f"{name}.csv")


def chosen(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame.sort_values("noise_sigma") if "noise_sigma" in frame else frame


def span(values: pd.Series, digits: int) -> str:
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}"


def gains_in_psnr() -> list[str]:
    gains = chosen(table("table2_gains"), metric="PSNR_dB")
    rows = {
        "real head S1 (8-bit image, simulated noise), the same comparison": ("real_head", "full_sampled", "volume"),
        "six digital heads, the same comparison": ("quantitative", "full_sampled", "volume"),
        "real head S1, inside the head, against the noise-free image": ("real_head", "noise_free", "head"),
        "six digital heads, inside the head, against the noise-free image": ("quantitative", "noise_free", "head"),
    }
    told = []
    for words, (of, reference, region) in rows.items():
        found = chosen(gains, set=of, reference=reference, region=region)
        assert found["noise_sigma"].tolist() == LEVELS
        told.append(f"| {words} | " + " | ".join(f"{gain:+.2f}" for gain in found["gain"]) + " |")
    return told


def verdicts() -> list[str]:
    gains = table("table2_gains")
    barred = gains[gains["verdict"].notna()]
    volume = chosen(gains, reference="full_sampled", region="volume")
    volume = volume[volume["metric"].isin(["PSNR_dB", "SSIM", "NRMSE_percent"])]
    at_least = int((volume["gain"] >= volume["published"]).sum())
    reached = int(barred["verdict"].str.contains("reached").sum())
    return [f"{at_least} of {len(volume)} gains in PSNR, SSIM and NRMSE", f"{reached} of {len(barred)} are reached"]


def volumetry_gains() -> list[str]:
    gains = chosen(table("volumetry_gains"), reference="full_sampled")
    spans = {}
    for kind, metric, first, digits in (("tissue", "DSC_FAST", 0.5, 4), ("subcortical", "DSC_FIRST", 1.0, 3)):
        for name, of in SETS.items():
            found = chosen(gains, set=of, metric=metric)
            spans[kind, name] = span(found[found["noise_sigma"] >= first]["gain"], digits)
    none = {name: chosen(gains, set=of, metric="DSC_FAST", noise_sigma=0.0)["gain"].item() for name, of in SETS.items()}
    return [
        f"tissue by {spans['tissue', 'digital']} from +0.5 σ on (S1: {spans['tissue', 'S1']}), subcortical structures "
        f"by {spans['subcortical', 'digital']} from +1 σ on (S1: {spans['subcortical', 'S1']})",
        f"At +0 σ that of tissue changes by {none['digital']:+.4f} (S1: {none['S1']:+.4f})".replace("-", "−"),
    ]


def volumes() -> list[str]:
    found = chosen(table("volumetry_volumes"), reference="full_sampled")

    def change(name: str, level: float) -> str:
        row = chosen(found, set=SETS[name], noise_sigma=level).iloc[0]
        return f"from {row['original']:.1f} to {row['sN2N']:.1f} %"

    return [
        f"go {change('digital', 1.0)} at +1 σ and {change('digital', 3.0)} at +3 σ on the digital heads, "
        f"{change('S1', 1.0)} and {change('S1', 3.0)} on S1"
    ]


def test_where_volumes_come_nearer_to_the_reference() -> None:
    """Averaged over the four scans and on the digital heads at every level from +1 σ on; on S1 at all but +1 σ."""
    found = chosen(table("volumetry_volumes"), reference="full_sampled")
    found = found[found["noise_sigma"] >= 1]
    nearer = found.assign(less=found["original"] - found["sN2N"])
    assert nearer[nearer["less"] <= 0][["set", "noise_sigma"]].to_numpy().tolist() == [["real_head", 1.0]]
    total = (nearer["less"] * nearer["n"]).groupby(nearer["noise_sigma"]).sum()
    assert (total > 0).all() and nearer.groupby("noise_sigma")["n"].sum().tolist() == [4] * 5


def shares() -> list[str]:
    gains = chosen(table("volumetry_gains"), reference="full_sampled")
    told = {}
    for metric, first in (("DSC_FAST", 0.5), ("DSC_FIRST", 1.0)):
        for name, of in SETS.items():
            found = chosen(gains, set=of, metric=metric)
            told[metric, name] = span(found[found["noise_sigma"] >= first]["share"], 0)
    return [
        f"tissue {told['DSC_FAST', 'digital']} % on digital heads, {told['DSC_FAST', 'S1']} % on S1; "
        f"subcortical structures {told['DSC_FIRST', 'digital']} % and {told['DSC_FIRST', 'S1']} %"
    ]


def what_can_be_removed() -> list[str]:
    """Of tissue's 1 − DSC what the noise-free image lacks not, times the noise that sN2N takes away in the head."""
    gains = chosen(table("volumetry_gains"), set="quantitative", reference="full_sampled", metric="DSC_FAST")
    lacking = 100 * gains["gain"].to_numpy() / gains["share"].to_numpy()  # 1 − DSC of the original
    removable = gains["ceiling"].to_numpy() / lacking
    psnr = chosen(table("table2_gains"), set="quantitative", reference="noise_free", region="head", metric="PSNR_dB")
    removed = 1 - 10 ** (-psnr["gain"].to_numpy() / 20)
    at = [LEVELS.index(level) for level in (1.0, 2.0, 3.0)]
    listed = ["{:.0f}, {:.0f} and {:.0f} %".format(*values[at]) for values in
              (100 * removable, 100 * removed, 100 * removable * removed, gains["share"].to_numpy())]  # fmt: skip
    return [
        f"the noise-free image itself would remove {listed[0]} of tissue's 1 − DSC at +1, 2 and 3 σ, and sN2N takes "
        f"{listed[1]} of the noise away: together {listed[2]}, where {listed[3]} were found"
    ]


def truth() -> list[str]:
    found = chosen(table("table2_volumetry"), set="quantitative", reference="truth")
    tissue = chosen(found, metric="DSC_FAST")

    def mean(arm: str, level: float) -> float:
        return chosen(tissue, arm=arm, noise_sigma=level)["mean"].item()

    pairs = [f"{mean('sN2N', level):.3f} against {mean('original', level):.3f} at +{level:g} σ" for level in (1.0, 3.0)]
    reference = chosen(found, arm="full_sampled", noise_sigma=0.0).set_index("metric")["mean"]
    scans = chosen(table("volumetry_per_scan"), set="quantitative", metric="DSC_FAST", arm="full_sampled")
    each = chosen(scans, reference="truth", noise_sigma=0.0).sort_values("scan")["value"]
    return [
        " and ".join(pairs),
        f"{reference['DSC_FAST']:.4f} against the truth for tissue (" + ", ".join(f"{one:.3f}" for one in each) + ")",
        f"{reference['DSC_FIRST']:.3f} for subcortical structures",
    ]


def vessel_walls() -> list[str]:
    bars = chosen(table("vessel_wall_bars"), arm="sN2N").set_index("bar")["value"]

    def value(start: str) -> float:
        return float(bars[next(name for name in bars.index if name.startswith(start))])

    return [
        f"CNR of wall and lumen +{value('CNR of wall and lumen: gain'):.0f} %, of wall and CSF "
        f"+{value('CNR of wall and CSF: gain'):.0f} %",
        f"noise SD −{value('noise SD in lumen'):.0f} % in the lumen and −{value('noise SD in CSF'):.0f} % in CSF",
    ]


def a_class() -> list[str]:
    """What notebook 00 leaves: its head and scan are the same in every profile, its training nearly so."""
    names = ["figures/quickstart.png", "tables/quickstart.csv"]
    assert [name for name in names if not (REPORT / name).is_file()] == []
    psnr = table("quickstart").set_index("image")["psnr"]
    assert psnr["sN2N"] > psnr["network alone"]
    return [*(f"`{name}`" for name in names), f"sN2N gains about {psnr['sN2N'] - psnr['original']:.0f} dB over"]


@pytest.mark.parametrize(
    ("told", "where"),
    [
        (gains_in_psnr, "README.md"),
        (verdicts, "README.md"),
        (volumetry_gains, "README.md"),
        (shares, "README.md"),
        (vessel_walls, "README.md"),
        (a_class, "README.md"),
        (volumes, "docs/evidence.md"),
        (what_can_be_removed, "docs/evidence.md"),
        (truth, "docs/evidence.md"),
    ],
)
def test_the_readme_tells_the_numbers_of_the_report(told: Callable[[], list[str]], where: str) -> None:
    text = " ".join((ROOT / where).read_text(encoding="utf-8").split())
    missing = [sentence for sentence in told() if sentence not in text]
    assert not missing, missing


def test_every_gain_in_volumetry_has_a_share() -> None:
    gains = table("volumetry_gains")
    assert np.isfinite(chosen(gains, reference="full_sampled")["share"]).all()


def anchors(page: Path) -> set[str]:
    """Names that links into a page may end in, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("where", ["README.md", "docs/evidence.md", "docs/raw_data.md"])
def test_every_link_leads_somewhere(where: str) -> None:
    page = ROOT / where
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    inside = [link.partition("#") for link in links if not link.startswith("https://")]
    assert inside
    for path, _, anchor in inside:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"
