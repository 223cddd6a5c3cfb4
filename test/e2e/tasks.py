# Run by drgn: prints what a person asks first, as JSON.
import json

from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg

print(
    json.dumps(
        {
            "tasks": [[task.pid.value_(), task.comm.string_().decode()] for task in for_each_task(prog)],
            "log": get_dmesg(prog).decode("latin-1"),
        }
    )
)
