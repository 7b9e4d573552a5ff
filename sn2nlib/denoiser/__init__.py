"""Images → better images: 2.5D windows, the U-Net, Noise2Noise training, a trained model at work.

The only room that imports torch. Its public names stand in `__init__.pyi` and load on first use, so that
importing the package stays quick; the stub also tells type checkers that `train` is the function.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
