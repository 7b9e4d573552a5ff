"""What the noise and the coils of the vessel wall scans were chosen by, on phantoms outside of the study.

    python benchmarks/vessel_wall.py [--profile demo] [--seeds 9001 9002]
        [--scanners 0.05,12 0.025,16] [--coils 16 24 32]

First question, for scans at R = 2×2 CAIPIRINHA: how many noise SDs a wall lies above nothing, and what share of its
contrast to the lumen the Rician floor takes. Second, for scans to learn from at R = 2×1: by how much of their noise the
halves differ in what GRAPPA leaves of the aliasing. Takes some minutes per phantom and scanner.
"""

import argparse
import warnings
from typing import Any

import pandas as pd

from sn2nlib.config import load_profile
from sn2nlib.evaluation.participants import pair_numbers
from sn2nlib.evaluation.vessel_scans import replica_images, simulate_training_scan, simulate_vessel_scan
from sn2nlib.evaluation.vessels import measure_vessels, scan_means
from sn2nlib.recon.pairs import make_pair, systematic_difference
from sn2nlib.scans.acquire import without_noise
from sn2nlib.scans.manifest import load_participants, manifest_folder


def main() -> None:
    """Print a row per phantom and scanner, for either question, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[9001, 9002])
    parser.add_argument("--scanners", nargs="*", default=["0.05,12", "0.025,16"], help="noise ratio, coils")
    parser.add_argument("--coils", type=int, nargs="*", default=[16, 24, 32], help="of the scans to learn from")
    asked = parser.parse_args()
    if set(asked.seeds) & set(load_participants(manifest_folder())["seed"].dropna().astype(int)):
        parser.error("a seed is that of a participant: nothing is chosen on those")
    study = load_profile(asked.profile)
    scanner = study.vessel_wall.model_dump(include={"matrix", "centre", "acs", "oversampling", "noise_ratio"})
    scanner["recon"] = study.recon.model_dump()
    pairs = [(float(ratio), int(coils)) for ratio, coils in (each.split(",") for each in asked.scanners)]
    told("how far a wall stands out", ["noise_ratio", "coils"], [
        {"seed": seed, "noise_ratio": ratio, "coils": coils}
        | standing_out(seed, study.vessel_wall.replicas, {**scanner, "noise_ratio": ratio, "n_coils": coils})
        for ratio, coils in pairs for seed in asked.seeds
    ])  # fmt: skip
    told("what the halves of scans to learn from differ by", ["coils"], [
        {"seed": seed, "coils": coils} | halves(seed, {**scanner, "n_coils": coils})
        for coils in asked.coils for seed in asked.seeds
    ])  # fmt: skip


def standing_out(seed: int, replicas: int, scanner: dict[str, Any]) -> dict[str, float]:
    """Of one phantom's conventional images: the wall over its noise SD, and percent of contrast that are lost."""
    made = simulate_vessel_scan(seed, **scanner)
    repeated = list(replica_images(made.scan, replicas, seed=seed, recon=scanner["recon"]))
    arms = {"original": repeated, "noise_free": [made.references.noise_free]}
    means = scan_means(measure_vessels(arms, made.scan.affine, made.sites)).set_index("arm")
    original, clean = means.loc["original"], means.loc["noise_free"]
    lost = 100 * (1 - original["contrast_lumen"] / clean["contrast_lumen"])
    return {"wall_over_noise": original["wall"] / original["sd_wall"], "contrast_lost_percent": lost}


def halves(seed: int, scanner: dict[str, Any]) -> dict[str, float]:
    """Of one phantom's pair of halves: the numbers of `pair_numbers`."""
    scan = simulate_training_scan(seed, **scanner)
    with warnings.catch_warnings():
        # the g-factor is among what is printed
        warnings.filterwarnings("ignore", message="the median g-factor of a half image", category=UserWarning)
        pair = make_pair(scan, **scanner["recon"])
    return pair_numbers(pair, systematic_difference(without_noise(scan), pair))


def told(title: str, keys: list[str], rows: list[dict[str, Any]]) -> None:
    """Print rows and their means over the phantoms."""
    if rows:
        table = pd.DataFrame(rows)
        print(f"{title}:\n{table.round(3).to_string(index=False)}")
        print(f"means:\n{table.drop(columns='seed').groupby(keys).mean().round(3).to_string()}", flush=True)


if __name__ == "__main__":
    main()
