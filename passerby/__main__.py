"""`python -m passerby`, which is `passerby`; for launchers that start modules, such as torchrun."""

from passerby.cli import main

if __name__ == "__main__":
    main()
