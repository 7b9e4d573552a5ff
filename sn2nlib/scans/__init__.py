"""Where k-space comes from: digital and real heads, simulated acquisition, scan files, the manifest."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["acquire", "atlas", "dicom", "heads", "images", "manifest", "scan"],
    submod_attrs={
        "acquire": ["acquire", "undersample", "add_noise"],
        "dicom": ["check_dicom_output", "is_dicom", "read_dicom", "write_dicom"],
        "heads": ["Head", "digital_head", "read_head"],
        "scan": ["Scan", "load_scan", "save_scan", "inspect_scan"],
    },
)
