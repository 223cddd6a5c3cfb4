# Run by drgn: prints the SHA-256 of physical memory in [GUESTCORE_START, GUESTCORE_END), read as drgn's library reads it.
import hashlib
import os

start, end = int(os.environ["GUESTCORE_START"]), int(os.environ["GUESTCORE_END"])
digest = hashlib.sha256()
for address in range(start, end, 1 << 20):
    digest.update(prog.read(address, min(1 << 20, end - address), True))
print(digest.hexdigest())
