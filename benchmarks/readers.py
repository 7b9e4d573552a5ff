"""The anchors of the synthetic readers: what the model observer measures in images of the validation heads.

    python benchmarks/readers.py [--profile demo]

Each validation head is scanned at the mean PSNR of the profile's test scans. Its noise-free image is to be graded 4.8,
its conventional image with four times the noise 2 (`sn2nlib.evaluation.readers.observer`); the geometric means printed
last are the constants there. Takes a minute per head.
"""

import argparse

import numpy as np
import pandas as pd

from sn2nlib.config import load_profile
from sn2nlib.evaluation.participants import simulate_participant
from sn2nlib.evaluation.readers.looks import look
from sn2nlib.evaluation.readers.observer import FUNCTIONS, evidence
from sn2nlib.evaluation.readers.sights import sights_of
from sn2nlib.recon.pairs import reconstruct
from sn2nlib.scans.acquire import undersample
from sn2nlib.scans.heads import digital_head
from sn2nlib.scans.manifest import load_splits, manifest_folder
from sn2nlib.scans.sequence import MpRage

NOISIER = 4
KINDS = ("noise-free", "conventional", f"{NOISIER} times the noise")


def main() -> None:
    """Print the evidence of every image, and the anchors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo")
    study = load_profile(parser.parse_args().profile)
    people = load_splits(manifest_folder(), study.name)
    rows = []
    for person in people[people["set"] == "validation"].to_dict("records"):
        rows += [{"head": person["participant"], **row} for row in measured(person, study)]
        print(pd.DataFrame(rows[-len(KINDS) :]).round(3).to_string(index=False), flush=True)
    table = pd.DataFrame(rows)
    names = [name for name in FUNCTIONS if name != "artifacts"]
    print("geometric means:")
    print(np.exp(np.log(table.set_index("image")[names]).groupby(level=0).mean()).round(3).to_string())


def measured(person: dict, study) -> list[dict[str, object]]:
    """Evidence from three images of one head."""
    size = {"matrix": study.acquisition.matrix, "voxel_size": study.acquisition.voxel_size}
    sampling, recon, seed = study.acquisition.sampling, study.recon.model_dump(), int(person["seed"])
    head = digital_head(seed, age=float(person["age"]), sex=person["sex"], **size)
    made = simulate_participant(
        head, seed=seed, target_psnr=study.noise.target_psnr[0], n_coils=study.acquisition.coils, recon=recon,
        sequence=MpRage(**study.acquisition.sequence.model_dump()), **sampling, **size,
    )  # fmt: skip
    assert made.references is not None
    clean = made.references.noise_free
    image = np.abs(reconstruct(undersample(made.scan, **sampling), **recon))
    sights = sights_of(head, image.shape)
    sd = float(np.std((image - clean)[sights.white])) * np.sqrt(NOISIER**2 - 1)
    noisy = np.abs(image + np.random.default_rng(1).normal(0, sd, image.shape))
    found = []
    for kind, volume in zip(KINDS, (clean, image, noisy), strict=True):
        values = {str(row["measure"]): float(str(row["value"])) for row in look(volume, sights) if row["item"] == ""}
        found.append({"image": kind, **evidence(values)})
    return found


if __name__ == "__main__":
    main()
