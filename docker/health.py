"""Ask the services in this container whether they work: exit code 0 if each address answers with 200, else 1.

python3 docker/health.py URL...
"""

import sys
import urllib.request

TIMEOUT_S = 4.0


def main(addresses: list[str]) -> int:
    """Return the exit code; what does not answer is named on standard error."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of this container
    failures = 0
    for address in addresses:
        try:
            opener.open(address, timeout=TIMEOUT_S).close()  # raises for 400 and above
        except (OSError, ValueError) as error:
            print(f"{address}: {error}", file=sys.stderr)
            failures += 1
    return 1 if failures or not addresses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
