"""Where k-space comes from: digital and real heads, simulated acquisition, scan files, the manifest."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["acquire", "atlas", "dicom", "dicom_write", "heads", "images", "manifest", "scan"],
    submod_attrs={
        "acquire": ["acquire", "undersample", "add_noise"],
        "dicom": ["is_dicom", "read_dicom"],
        "dicom_write": ["check_dicom_output", "write_dicom"],
        "heads": ["Head", "digital_head", "read_head"],
        "scan": ["Scan", "load_scan", "save_scan", "inspect_scan"],
    },
)
