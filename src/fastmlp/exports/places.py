"""Where the values of a forward pass lie: as few buffers as their lifetimes allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastmlp.plan import Plan, Step, Value


def places(plan: Plan, in_place: Collection[str]) -> tuple[dict[Value, str], dict[str, int]]:
    """Return the array in which each value lies, and the sizes of the buffers.

    Parameters
    ----------
    plan : Plan
        What a step writes beside its first result is not needed in prediction.
    in_place : collection of str
        Operations whose result may lie where what they read first lay.

    Returns
    -------
    dict of Value to str
        "x" for the input, "y" for the output, which also serves as a buffer on the way, and
        "a0", "a1", … for what lies in a buffer.
    dict of str to int
        Buffer -> the largest number of columns that lie in it.
    """
    last = {plan.output: len(plan.forward)}
    for number, step in enumerate(plan.forward):
        for value in step.reads:
            last[value] = max(last.get(value, 0), number)

    def reuses(step: Step, number: int) -> bool:
        source, result = step.reads[0], step.writes[0]
        return (
            step.op in in_place
            and source is not plan.input
            and source.shape == result.shape
            and last[source] == number
            and source not in step.reads[1:]
        )

    found = {plan.input: "x"}
    if plan.output is not plan.input:
        found[plan.output] = "y"
    for number, step in reversed(list(enumerate(plan.forward))):
        if found.get(step.writes[0]) == "y" and reuses(step, number):
            found[step.reads[0]] = "y"

    sizes: dict[str, int] = {}
    free: list[str] = []
    for number, step in enumerate(plan.forward):
        result = step.writes[0]
        if result not in found:
            if reuses(step, number):
                found[result] = found[step.reads[0]]
            else:
                # The smallest that is large enough; otherwise the largest, which then grows.
                fitting = [name for name in free if sizes[name] >= result.cols]
                if fitting:
                    name = min(fitting, key=sizes.__getitem__)
                elif free:
                    name = max(free, key=sizes.__getitem__)
                else:
                    name = f"a{len(sizes)}"
                if name in free:
                    free.remove(name)
                found[result] = name
            name = found[result]
            sizes[name] = max(sizes.get(name, 0), result.cols)
        done = {found[v] for v in step.reads if v in found and last[v] == number}
        free += sorted((done & sizes.keys()) - {found[result]} - set(free))
    return found, sizes
