"""From and to other libraries' files, each an extra that is imported only when it is used."""
