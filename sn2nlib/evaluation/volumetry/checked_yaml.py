"""A YAML file that a pydantic model describes, with every fault named."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sn2nlib.errors import Sn2nError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model], *, missing: str, raised: type[Sn2nError]) -> Model:
    """The content of a file as `model`.

    Parameters
    ----------
    path
        The file.
    model
        What it must hold.
    missing
        What to say if there is no such file.
    raised
        Kind of the errors.

    Raises
    ------
    Sn2nError
        Of the kind `raised`, if there is no such file, it is no YAML, or something in it is wrong.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise raised(missing) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise raised(f"{path}: not a YAML file: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
        raise raised(f"{path}: {faults}") from error
