"""What a caller of the merge can do wrong.

MergeError
├── UnknownMethod      no merge method of this name
├── UnusableMethod     what a package offers under this name is not a merge method
├── LayoutDiffers      the sets do not hold the same tensors
└── NothingToMerge     no sets, weights that add up to nothing, or two sets of one name
"""


class MergeError(ValueError):
    """Base class; the text says what is wrong."""


class UnknownMethod(MergeError):
    def __init__(self, method: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no merge method '{method}'; there is {', '.join(known)}")
        self.method = method
        self.known = known


class UnusableMethod(MergeError):
    """``str()`` names the method and where it comes from."""


class LayoutDiffers(MergeError):
    """``str()`` names the tensor, both forms and both sets."""


class NothingToMerge(MergeError):
    pass
