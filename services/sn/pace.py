"""Why the interval between merges is what it is, in words."""

from services.chain.events import IntervalChosen


def pace_in_words(event: IntervalChosen) -> str:
    """Such as ``a mean loss of 0.31 after 0.42 is more than a hundredth better``. The contract numbers the reasons."""
    match event.reason:
        case 0:
            return "no loss was reported of the round before"
        case 1:
            return f"the first mean loss is {event.mean_loss:.4g}"
        case 2:
            return f"{_compared(event)} is more than a hundredth better"
        case 3:
            return f"{_compared(event)} is better by less than a hundredth"
    return f"{_compared(event)} is no better"


def _compared(event: IntervalChosen) -> str:
    return f"a mean loss of {event.mean_loss:.4g} after {event.earlier_loss:.4g}"
