"""Paper: tables and figures beside the published numbers, and the runner of the notebooks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "demographics", "document", "figures", "html", "notebooks", "published", "readers", "reading_room",
        "reading_server", "report", "study", "tables",
    ],
    submod_attrs={
        "demographics": ["table1", "table1_tests", "table1_html"],
        "document": ["save_reader_report"],
        "html": ["table2_html", "gains_html", "save_html"],
        "published": ["Published", "load_published"],
        "report": ["build_report"],
        "tables": ["per_scan", "table2", "gains", "save_csv"],
    },
)
