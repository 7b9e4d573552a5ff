"""Volumetry: one image in, labelled maps out, by one of several engines, behind plausibility gates.

An image is segmented from its own voxels alone: mask, bias field and registration are its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "brain", "choice", "command", "elsewhere", "engine", "experiment", "fsl", "grids", "measures", "subcortical",
        "tissue", "truth",
    ],
    submod_attrs={
        "choice": ["choose_engines"],
        "engine": ["SUBCORTICAL", "TISSUES", "Segmentation", "Segmenter", "segment", "volumes"],
        "subcortical": ["AtlasSubcortical"],
        "tissue": ["MarkovTissues"],
    },
)  # fmt: skip
