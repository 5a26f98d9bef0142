"""`python -m twil` is `twil`."""

from twil.cli.main import main

if __name__ == "__main__":
    main()
