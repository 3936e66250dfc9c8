"""Plans of older releases: how each form is read as the one after it.

A plan is kept as the text that was approved, and is never written anew: its hash names what people
agreed to. So a release that writes plans in another form reads the older forms instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: A form to what makes a plan of it, as JSON data, one of the next form. The oldest form is 1.
NEXT_FORM: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def present_form(plan: Any, present: int) -> dict[str, Any]:
    """A plan of any form, as JSON data, in the form ``present``.

    The field ``form`` stays the one that the plan was written in.

    Raises:
        ValueError: when it is no plan, is of a newer form, or of one that is not known.
    """
    data: dict[str, Any] = plan if isinstance(plan, dict) else {}
    form = data.get("form")
    if not isinstance(form, int) or form < 1:
        raise ValueError("it is not a merge plan")
    if form > present:
        raise ValueError(
            f"it has form {form}, and this release knows forms 1 to {present}: a newer release "
            "made it, which must be installed to use it"
        )
    for number in range(form, present):
        data = NEXT_FORM[number](data)
    return data | {"form": form}
