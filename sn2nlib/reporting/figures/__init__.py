"""The study's figures: arrays and tables in, a page-wide figure out, legible in print and without colour.

Every figure says on itself what it shows and whose head it is; its `caption`, computed from the data, is
written into the PNG and taken from there by the report. A figure shows itself in a notebook as a cell's value.
"""

from sn2nlib.reporting.figures.anatomy import cohort, comparison, montage
from sn2nlib.reporting.figures.before_after import before_after
from sn2nlib.reporting.figures.graphs import alpha_curve, bias_plot, floor_in_words, learning_curve
from sn2nlib.reporting.figures.levels import noise_level_curves
from sn2nlib.reporting.figures.preparation import noise_maps, pairs, preprocessing, preprocessing_panels
from sn2nlib.reporting.figures.readers import fine_structures, lesion_examples, score_bars
from sn2nlib.reporting.figures.sheet import Sheet, save_figure, stamp_text
from sn2nlib.reporting.figures.vessel_wall import sharpness_plot, vessel_measures, vessel_views
from sn2nlib.reporting.figures.volumetry import bland_altman_plot, dsc_curves, label_overlay, structure_plot

__all__ = [
    "Sheet",
    "alpha_curve",
    "before_after",
    "bias_plot",
    "bland_altman_plot",
    "cohort",
    "comparison",
    "dsc_curves",
    "fine_structures",
    "floor_in_words",
    "label_overlay",
    "learning_curve",
    "lesion_examples",
    "montage",
    "noise_level_curves",
    "noise_maps",
    "pairs",
    "preprocessing",
    "preprocessing_panels",
    "save_figure",
    "score_bars",
    "sharpness_plot",
    "stamp_text",
    "structure_plot",
    "vessel_measures",
    "vessel_views",
]
