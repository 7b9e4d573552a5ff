"""The reader study: what is scored, the table of scores, and what comes out of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["criteria", "rooms", "scores", "session"],
    submod_attrs={
        "criteria": ["Criteria", "Parameter", "Structure", "load_criteria"],
        "rooms": ["prepare_room", "unblind"],
        "scores": ["write_scores"],
        "session": ["Session"],
    },
)
