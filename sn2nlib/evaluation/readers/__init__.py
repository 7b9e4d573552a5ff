"""The reader study: what is scored, the table of scores, and what comes out of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "cases", "criteria", "looks", "observer", "rooms", "rules", "scores", "session", "sights", "spreadsheets",
        "studies", "summary", "wide",
    ],
    submod_attrs={
        "criteria": ["Criteria", "Parameter", "Structure", "load_criteria"],
        "rooms": ["prepare_room", "unblind"],
        "scores": ["describe_scores", "read_cases", "read_scores", "write_scores"],
        "session": ["Session"],
        "summary": ["Summary", "summarise"],
        "wide": ["read_wide"],
    },
)
