"""Where k-space comes from: digital and real heads, simulated acquisition, scan files, the manifest."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "acquire", "atlas", "bart", "black_blood", "dicom", "export", "heads", "images", "manifest", "raw", "scan",
        "sides", "vessels",
    ],
    submod_attrs={
        "acquire": ["acquire", "undersample", "add_noise", "noise_replicas"],
        "bart": ["bart_files", "load_bart", "save_bart"],
        "black_blood": ["BlackBloodHead", "black_blood_head"],
        "dicom": ["check_dicom_output", "is_dicom", "read_dicom", "write_dicom"],
        "export": ["export_scan", "save_ismrmrd"],
        "heads": ["Head", "digital_head", "read_head"],
        "raw": ["convert_raw", "inspect_raw", "is_scan_file", "open_raw", "opened_raw", "option_names", "read_raw"],
        "sides": ["Sides", "compare_sides"],
        "scan": ["Scan", "load_scan", "save_scan"],
    },
)
