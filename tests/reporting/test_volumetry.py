"""Volumetry on paper: rows four and five of Table 2, gains and shares, volumes, figures; from rows that are known."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.volumetry import mixture
from sn2nlib.evaluation.volumetry.choice import SECOND
from sn2nlib.evaluation.volumetry.measures import bland_altman, complete_pairs, surface_distances, volume_error
from sn2nlib.reporting import figures
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.volumetry import (
    crossings,
    dsc_gains,
    dsc_per_scan,
    dsc_table,
    excluded_sentence,
    volume_gains,
    with_engines,
)
from sn2nlib.reporting.volumetry_html import dsc_html, surfaces_html, truth_html, volumes_html

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
ENGINES = {"tissue": "HMRF, dipy 1", "subcortical": "FIRST substitute (Harvard–Oxford atlas), ants 2"}
FSL = {"tissue": "FSL FAST, 6.0.7", "subcortical": "FSL FIRST, 6.0.7"}
PROVENANCE = {"versions": {"numpy": "2"}, "commit": "c0ffee", "profile": "demo", "seed": 7}
COLUMNS = ["set", "metric", "arm", "reference", "region", "noise_sigma", "n", "mean", "sd", "p_value"]


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


@pytest.fixture(scope="module")
def values(volumetry_rows: pd.DataFrame) -> pd.DataFrame:
    return dsc_per_scan(complete_pairs(volumetry_rows)[0])


def words(html: str) -> str:
    text = re.sub(r"<style.*?</style>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def one(table: pd.DataFrame, **wanted: object) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_rows_have_the_columns_of_table2(values: pd.DataFrame) -> None:
    table = dsc_table(values)
    assert list(table) == COLUMNS
    assert set(table["metric"]) == {"DSC_FAST", "DSC_FIRST", "DSC_FIRST_second_atlas"}
    where = {"set": "quantitative", "metric": "DSC_FAST", "reference": "full_sampled", "noise_sigma": 2.0}
    row = one(table, arm="original", **where)
    assert row["mean"] == pytest.approx(0.95 - 0.08 + 0.001) and row["sd"] == pytest.approx(0.001) and row["n"] == 3
    assert one(table, arm="truth", **where)["mean"] == pytest.approx(0.951)
    assert one(table, arm="full_sampled", **where | {"reference": "truth"})["mean"] == pytest.approx(0.951)
    assert table["p_value"].isna().all()  # three scans are too few
    real = table[table["set"] == "real_head"]
    assert (real["n"] == 1).all() and real["sd"].isna().all()


def test_six_scans_have_a_p_value(volumetry_rows: pd.DataFrame) -> None:
    rows = volumetry_rows[volumetry_rows["set"] == "quantitative"]
    more = pd.concat([rows, rows.assign(scan=rows["scan"] + "b", dice=rows["dice"] - 0.002)])
    more["dice"] += 0.01 * np.random.default_rng(0).random(len(more))
    table = dsc_table(dsc_per_scan(more))
    has = table["p_value"].notna()
    assert set(table.loc[has, "arm"]) == {"original", "sN2N"} and (table.loc[has, "n"] == 6).all()
    assert one(table, metric="DSC_FAST", reference="full_sampled", noise_sigma=3.0, arm="sN2N")["p_value"] < 0.001


def test_every_table_names_its_engines(values: pd.DataFrame, volumetry_rows: pd.DataFrame) -> None:
    told = ENGINES | {"subcortical_second": "FIRST substitute (Desikan–Killiany atlas), ants 2"}
    table = with_engines(dsc_table(values), told)
    assert list(table) == [*COLUMNS, "engine"]
    for metric, kind in (("DSC_FAST", "tissue"), ("DSC_FIRST", "subcortical"), ("DSC_FIRST_second_atlas", SECOND)):
        bound = " (the true labels come from the same atlas: an upper bound)" if kind == "subcortical" else ""
        for reference, more in (("full_sampled", ""), ("truth", bound)):
            where = (table["metric"] == metric) & (table["reference"] == reference)
            assert set(table.loc[where, "engine"]) == {told[kind] + more}
    assert set(with_engines(volume_gains(volume_error(volumetry_rows)), told)["engine"]) == {"HMRF, dipy 1"}
    agreed = with_engines(bland_altman(volumetry_rows), told)
    images = agreed[agreed["reference"] == "full_sampled"]
    assert set(images.loc[images["kind"] == "subcortical", "engine"]) == {told["subcortical"]}
    assert set(with_engines(volumetry_rows, told)["engine"]) == {"Slabs"}  # has its own


def test_gains_and_shares_beside_the_published(values: pd.DataFrame, published: Published) -> None:
    gains = dsc_gains(values, published, engines=ENGINES)
    assert set(gains["metric"]) == {"DSC_FAST", "DSC_FIRST"}
    row = one(gains, set="quantitative", metric="DSC_FAST", noise_sigma=1.0)
    assert row["gain"] == pytest.approx(0.02) and row["published"] == 0.024 and row["bar"] == 0
    assert row["verdict"] == "reached"  # any gain
    assert row["share"] == pytest.approx(100 * 0.02 / (0.05 + 0.04 - 0.001))
    assert row["published_share"] == pytest.approx(31, abs=0.5) and row["share_bar"] == 31
    assert row["share_verdict"] == "missed"  # 22 %, and the truth removes 45 %
    first = one(gains, set="quantitative", metric="DSC_FIRST", noise_sigma=0.5)
    assert first["verdict"] == "" and np.isnan(first["bar"]) and first["share_bar"] == 12
    assert first["share_verdict"] == "reached"
    assert one(gains, set="real_head", metric="DSC_FAST", noise_sigma=0.0)["share_verdict"] == ""


def test_the_gain_of_the_truth_is_of_the_scans_that_have_it(values: pd.DataFrame, published: Published) -> None:
    lost = (values["arm"] == "truth") & (values["scan"] == "D169") & (values["reference"] == "full_sampled")
    better = values.assign(value=values["value"] + 0.003 * ((values["scan"] == "D168") & (values["arm"] == "sN2N")))
    kept = better[~lost]
    gains = dsc_gains(kept, published, engines=ENGINES)
    row = one(gains, set="quantitative", metric="DSC_FAST", noise_sigma=1.0)
    assert (row["n"], row["n_truth"]) == (3, 2) and row["ceiling"] == pytest.approx(0.04)
    assert row["lowest"] == pytest.approx(0.02) and row["highest"] == pytest.approx(0.023)
    page = dsc_html(dsc_table(kept), gains, published, provenance=PROVENANCE, engines=ENGINES).as_raw_html()
    assert "The truth lacks 1 scan, whose noise-free image has no usable labels." in words(page)
    assert "+0.021 +0.020 … +0.023 +0.040 +0.024 reached" in words(page)


def test_with_fsl_the_published_gains_are_asked(values: pd.DataFrame, published: Published) -> None:
    gains = dsc_gains(values, published, engines=FSL)
    verdicts = gains[(gains["metric"] == "DSC_FAST") & (gains["set"] == "quantitative")].set_index("noise_sigma")
    assert verdicts["bar"].dropna().tolist() == [0.008, 0.024, 0.041, 0.056, 0.071, 0.084]
    assert verdicts["verdict"].tolist() == ["", "reached", "missed", "missed", "missed", "missed", "missed"]


def test_bars_of_volumetry_follow_the_published_table(published: Published) -> None:
    bars = published.volumetry_bars
    for row in bars[(bars["engine"] == "fsl") & (bars["quantity"] == "gain")].itertuples():
        assert row.bar == published.gain(row.metric, row.noise_sigma)
    for row in bars[bars["quantity"] == "share_percent"].itertuples():
        original = float(published.value(row.metric, "original", row.noise_sigma)["mean"])
        assert row.bar == pytest.approx(100 * published.gain(row.metric, row.noise_sigma) / (1 - original), abs=0.51)
    assert len(bars) == 12 + 11 + 24


def test_volumes_of_every_tissue_with_their_signs(volumetry_rows: pd.DataFrame) -> None:
    volumes = volume_gains(volume_error(volumetry_rows))
    row = one(volumes, set="quantitative", reference="full_sampled", noise_sigma=1.0)
    assert row["original"] == pytest.approx(3 * 4 * 0.75) and row["sN2N"] == pytest.approx(3 * 2 * 0.75)
    assert row["CSF_original"] == pytest.approx(-3) and row["GM_sN2N"] == pytest.approx(1.5)
    assert row["verdict"] == "reached"
    assert set(volumes.loc[volumes["noise_sigma"] < 1, "verdict"]) == {""}
    sentences = crossings(volumes[(volumes["set"] == "quantitative") & (volumes["reference"] == "full_sampled")])
    assert len(sentences) == 6 and "The bias of GM changes its sign between 0 and 0.5 σ (sN2N)." in sentences


def test_what_was_excluded_is_counted(volumetry_rows: pd.DataFrame, published: Published) -> None:
    bad = (volumetry_rows["scan"] == "D168") & (volumetry_rows["noise_sigma"] == 3) & (volumetry_rows["arm"] == "sN2N")
    rows = volumetry_rows.assign(failure=np.where(bad & (volumetry_rows["kind"] == "tissue"), "empty: GM", ""))
    kept, excluded = complete_pairs(rows)
    said = excluded_sentence(excluded, set_name="quantitative")
    assert said == (
        "Excluded as not plausible, both arms together: 1 pairs. D168 at 3 σ, tissue (sN2N: empty: GM)."
    )
    assert excluded_sentence(excluded, set_name="real_head") == "No segmentation had to be excluded."
    table = dsc_table(dsc_per_scan(kept))
    counts = table[(table["metric"] == "DSC_FAST") & (table["set"] == "quantitative")].groupby("noise_sigma")["n"].max()
    assert counts[3.0] == 2 and counts[2.5] == 3


def test_when_everything_failed_the_tables_are_empty(volumetry_rows: pd.DataFrame, published: Published) -> None:
    kept, excluded = complete_pairs(volumetry_rows.assign(failure="no brain"))
    values = dsc_per_scan(kept)
    assert list(dsc_table(values)) == COLUMNS and len(values) == 0 < len(excluded)
    gains = dsc_gains(values, published, engines=ENGINES)
    volumes = volume_gains(volume_error(kept))
    assert gains.empty and "share_verdict" in gains and volumes.empty and "GM_sN2N" in volumes


def test_the_table_stands_beside_the_published(values: pd.DataFrame, published: Published) -> None:
    table, gains = dsc_table(values), dsc_gains(values, published, engines=ENGINES)
    options = {"provenance": PROVENANCE, "engines": ENGINES}
    html = dsc_html(table, gains, published, notes=["Nothing excluded."], **options).as_raw_html()  # type: ignore[arg-type]
    text = words(html)
    assert "DSC of GM, WM, CSF (the paper’s FAST); here: HMRF, dipy 1" in text
    assert "here: FIRST substitute (Harvard–Oxford atlas), ants 2" in text
    assert "0.911 ± 0.001 0.931 ± 0.001 – 0.951 ± 0.001 0.923 ± 0.008 0.947 ± 0.007" in text
    assert "<0.001 +0.020 +0.020 … +0.020 +0.040 +0.024 reached +22 +31" in text.replace("&lt;", "<")
    assert "Lowest … highest scan Gain of the truth" in text and "eiling" not in text and "The truth lacks" not in text
    for expected in ("p-values need 6 scans; there are 3.", "Nothing excluded.", "Digital heads are not patients",
                     "Engines: tissue: HMRF, dipy 1; subcortical: FIRST", "commit c0ffee", "Jung et al."):
        assert expected in text, expected
    assert "second atlas" not in text and "http" not in html
    real = words(dsc_html(table, gains, published, set_name="real_head", **options).as_raw_html())  # type: ignore[arg-type]
    assert "A real head in a simulated scan" in real and "1 scan;" in real
    with pytest.raises(StudyError, match="no rows of 'qualitative'"):
        dsc_html(table, gains, published, set_name="qualitative", **options)  # type: ignore[arg-type]


def test_truth_and_volumes_as_tables(values: pd.DataFrame, volumetry_rows: pd.DataFrame) -> None:
    told = ENGINES | {"subcortical_second": "FIRST substitute (Desikan–Killiany atlas), ants 2"}
    text = words(truth_html(dsc_table(values), provenance=PROVENANCE, engines=told, notes=["A bound."]).as_raw_html())
    assert "with a second atlas; here: FIRST substitute (Desikan–Killiany atlas)" in text and "A bound." in text
    assert "0.831 ± 0.001 0.891 ± 0.001 0.951 ± 0.001" in text
    assert "where the image has labels" not in text
    inside = volumetry_rows[(volumetry_rows["reference"] == "truth") & (volumetry_rows["kind"] == "tissue")]
    inside = inside.assign(reference="truth_in_mask", dice=inside["dice"] + 0.02)
    rows = pd.concat([volumetry_rows, inside], ignore_index=True)
    both = dsc_table(dsc_per_scan(complete_pairs(rows)[0]))
    text = words(truth_html(both, provenance=PROVENANCE, engines=told).as_raw_html())
    assert "HMRF, dipy 1; where the image has labels" in text and "0.851 ± 0.001 0.911 ± 0.001 0.971 ± 0.001" in text
    assert "CSF that was not found does not count there" in text
    assert "they do not compare one kind of image with another" in text
    pd.testing.assert_frame_equal(volume_error(rows), volume_error(volumetry_rows))
    volumes = volume_gains(volume_error(volumetry_rows))
    text = words(volumes_html(volumes, reference="truth", provenance=PROVENANCE, engines=ENGINES).as_raw_html())
    assert "Percent of the volume in the true labels" in text
    text = words(volumes_html(volumes, provenance=PROVENANCE, engines=ENGINES).as_raw_html())
    assert "1 −3.0 +3.0 −3.0 9.0 −1.5 +1.5 −1.5 4.5 reached" in text
    assert "The bias of WM changes its sign between 0 and 0.5 σ (original)." in text


def test_the_shares_given_to_the_built_in_engine_are_told_wherever_it_ran(
    values: pd.DataFrame, volumetry_rows: pd.DataFrame, published: Published
) -> None:
    table, gains = dsc_table(values), dsc_gains(values, published, engines=ENGINES)
    volumes, surfaces = volume_gains(volume_error(volumetry_rows)), surface_distances(volumetry_rows)
    without_csf = np.where(mixture.PLACES >= 1, mixture._SHARES, 0)
    grey, white = np.rint(100 * (mixture._TISSUE[1:] @ without_csf) / without_csf.sum()).astype(int)
    shares = f"{grey} % are mostly GM and {white} % mostly WM"
    for name in ("built-in HMRF (DIPY), dipy 1", "HMRF, dipy 1"):
        told = ENGINES | {"tissue": name, SECOND: "FIRST substitute (Desikan–Killiany atlas), ants 2"}
        options = {"provenance": PROVENANCE, "engines": told}
        pages = [
            dsc_html(table, gains, published, **options),  # type: ignore[arg-type]
            truth_html(table, **options),  # type: ignore[arg-type]
            volumes_html(volumes, **options),  # type: ignore[arg-type]
            surfaces_html(surfaces, **options),  # type: ignore[arg-type]
        ]
        assert [shares in words(each.as_raw_html()) for each in pages] == [name.startswith("built-in")] * 4
    pages_of_text = [MANIFEST.parent / "README.md", MANIFEST.parent / "docs" / "evidence.md"]
    for text in (published.differences.to_string(), *(page.read_text(encoding="utf-8") for page in pages_of_text)):
        assert re.search(rf"{grey} % are (taken to be )?mostly GM and {white} % mostly WM", " ".join(text.split()))


def test_surface_distances_are_averaged_over_structures_then_scans(volumetry_rows: pd.DataFrame) -> None:
    far = volumetry_rows.assign(hd95_mm=volumetry_rows["arm"].map({"original": 3.0, "sN2N": 2.0}))
    far.loc[far["structure"] == "WM", "hd95_mm"] *= 2
    far.loc[far["scan"] == "D167", "hd95_mm"] += 0.3
    table = surface_distances(far)
    row = one(table, set="quantitative", kind="tissue", noise_sigma=1.0)
    assert row["n"] == 3 and row["original"] == pytest.approx(4.1) and row["sN2N"] == pytest.approx(8 / 3 + 0.1)
    text = words(surfaces_html(table, provenance=PROVENANCE, engines=ENGINES).as_raw_html())
    assert "tissue: HMRF, dipy 1" in text and "1 4.10 2.77 –" in text.replace("—", "–") and "3 scans" in text
    with pytest.raises(StudyError, match="no surface distances of 'other'"):
        surfaces_html(table, provenance=PROVENANCE, engines=ENGINES, set_name="other")


def test_curves_and_structures(values: pd.DataFrame, volumetry_rows: pd.DataFrame, published: Published) -> None:
    table, gains = dsc_table(values), dsc_gains(values, published, engines=ENGINES)
    sheet = figures.dsc_curves(table, gains, published, engines=ENGINES)
    assert "3 digital phantoms" in sheet.caption and "+0.020 at 1 σ" in sheet.caption
    assert "FIRST substitute (Harvard–Oxford atlas), ants 2" in sheet.caption
    assert any("FIRST substitute" in text.get_text() for text in sheet.texts)
    original = next(line for line in sheet.axes[0].lines if line.get_label() == "Original")
    np.testing.assert_allclose(original.get_ydata(), 0.951 - 0.04 * np.arange(7) / 2)
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (sheet.axes[0], sheet.axes[2])]
    assert legends == [["Original", "sN2N", "Truth"], ["published"]]
    with pytest.raises(StudyError, match="no DSC of the set 'other'"):
        figures.dsc_curves(table, gains, published, engines=ENGINES, set_name="other")
    rows = volumetry_rows[volumetry_rows["set"] == "quantitative"]
    sheet = figures.structure_plot(rows, levels=(0, 1, 7), engines=ENGINES, label="digital phantoms, n = 3")
    assert len(sheet.axes) == 2  # there is no 7 σ
    assert len(sheet.axes[0].get_yticklabels()) == 18
    assert "Structures whose DSC sN2N lowers: at 0 σ none; at 1 σ none." in sheet.caption
    assert Image.open(io.BytesIO(sheet.png())).size[0] > 700


def test_bland_altman_shows_bias_and_limits_of_each_level(volumetry_rows: pd.DataFrame) -> None:
    options = {"levels": (0, 1, 3), "engines": ENGINES}
    rows = volumetry_rows[volumetry_rows["set"] == "quantitative"]
    more = rows.assign(bias_percent=rows["bias_percent"] + rows["scan"].map({"D167": -1.0, "D168": 0.0, "D169": 1.0}))
    sheet = figures.bland_altman_plot(more, label="digital phantoms, n = 3", **options)  # type: ignore[arg-type]
    titles = [axes.get_title(loc="left") for axes in sheet.axes]
    assert titles == ["CSF", "GM", "WM", "15 subcortical structures"]
    gm = more[(more["structure"] == "GM") & (more["reference"] == "full_sampled") & (more["arm"] == "original")]
    heights = [float(np.asarray(line.get_ydata())[0]) for line in sheet.axes[1].lines if len(line.get_ydata())]
    assert len(heights) == 1 + 2 * 2 * 3  # zero; arms, levels above 0, bias and its limits
    for level in (1, 3):
        bias = gm.loc[gm["noise_sigma"] == level, "bias_percent"].mean()
        for expected in (bias, bias - 1.96, bias + 1.96):  # the scans' SD is 1, that of all levels is more
            assert min(abs(height - expected) for height in heights) < 1e-6
    assert "GM: Original +3.0 (+1.0 to +5.0) at 1 σ, +11.0 (+9.0 to +13.0) at 3 σ" in sheet.caption
    said = [text.get_text() for text in sheet.texts]
    assert any("Fainter = less added noise. Lines at 1 and 3 σ: bias; dashed" in text for text in said)
    one_head = figures.bland_altman_plot(  # seven images of one head have no limits of agreement
        rows[rows["scan"] == "D167"], label="real head", **options  # type: ignore[arg-type]
    )
    assert len([line for line in one_head.axes[1].lines if len(line.get_ydata())]) == 1 + 2 * 2
    assert "GM: Original +3.0 at 1 σ, +11.0 at 3 σ" in one_head.caption and "limits" not in one_head.caption
    assert [text.get_text() for text in one_head.axes[1].get_legend().get_texts()] == ["Original", "sN2N"]




def overlay(kind: str, lost: bool = False) -> figures.Sheet:
    """A bright block with labels in it, on volumes of unequal axes."""
    image = np.zeros((30, 34, 38), np.float32)
    image[4:26, 4:30, 4:34] = 1
    labels = np.zeros(image.shape, np.uint8)
    if kind == "tissue":
        labels[8:22, 8:26, 8:30], labels[10:20, 10:24, 10:28], labels[12:18, 12:22, 12:26] = 1, 2, 3
    else:
        labels[8:12, 14:18, 14:20], labels[18:22, 14:18, 14:20] = 10, 49
    arms = {"original": image, "sN2N": image}
    found = {"original": labels, "sN2N": None if lost else labels}
    label = "digital phantom D167, simulated scan"
    return figures.label_overlay(
        {0.0: arms, 3.0: arms}, {0.0: found, 3.0: found}, image, labels, kind=kind, voxel_size=(3.0, 2.0, 1.5),
        engine="HMRF, dipy 1", label=label,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["tissue", "subcortical"])
def test_contours_on_the_images(kind: str) -> None:
    sheet = overlay(kind)
    assert len(sheet.axes) == 6
    assert all(len(axes.collections) == (3 if kind == "tissue" else 2) for axes in sheet.axes)
    # the patient's right is at the left
    assert [text.get_text() for text in sheet.axes[0].texts] == ["R", "L"]
    assert "Digital phantom D167" in sheet.caption and "Engine: HMRF, dipy 1." in sheet.caption
    names = [text.get_text() for text in sheet.legends[0].get_texts()]
    assert names == (["CSF", "GM", "WM"] if kind == "tissue" else list(dict.fromkeys(names)))
    if kind == "subcortical":
        assert names == ["thalamus"]  # nothing that the plane does not hold
        # the right thalamus lies at high z, the patient's right: at the left of a coronal plane
        left, right = (each.get_paths()[0].vertices[:, 0].mean() for each in sheet.axes[0].collections)
        assert right < left
    # the file keeps the colours apart, however few pixels a line has
    stored = np.asarray(Image.open(io.BytesIO(sheet.png())).convert("RGB"), int).reshape(-1, 3)
    drawn = {"tissue": ("#56B4E9", "#F0E442", "#D55E00"), "subcortical": ("#56B4E9",)}[kind]
    for colour in drawn:
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(stored - wanted).max(axis=1) <= 1).any(), colour


def test_an_image_without_labels_is_shown_and_told() -> None:
    sheet = overlay("tissue", lost=True)
    assert "not plausible: sN2N at 0 σ, sN2N at 3 σ." in sheet.caption
    assert len(sheet.axes[1].collections) == 0 and len(sheet.axes[0].collections) == 3


def test_a_failed_reference_and_a_missing_arm() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[4:16, 4:16, 4:16] = 1
    options = {"kind": "subcortical", "voxel_size": (1.0, 1.0, 1.0), "engine": "E", "label": "x"}
    sheet = figures.label_overlay({1.0: {"original": image, "sN2N": image}}, {}, image, None, **options)  # type: ignore[arg-type]
    assert "Fully sampled at 1 σ" in sheet.caption
    with pytest.raises(StudyError, match="the images at 1 σ lack an arm"):
        figures.label_overlay({1.0: {"original": image}}, {}, image, None, **options)  # type: ignore[arg-type]
