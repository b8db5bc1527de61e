"""`python -m seatsvc` is the same as `seatsvc`."""

from seatsvc.cli import main

if __name__ == "__main__":
    main()
