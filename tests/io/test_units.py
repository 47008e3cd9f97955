from dinodiet.io.units import byte_size, count, duration, energy


def test_numbers_in_words() -> None:
    sizes = [0, 700, 2_100, 5 * 2**20, 1.5 * 2**30, 2**41]
    assert [byte_size(n) for n in sizes] == ["0 B", "700 B", "2.1 KiB", "5.0 MiB", "1.5 GiB", "2.0 TiB"]
    assert [count(n) for n in (7, 1_500, 3_370_000, 1_200_000_000)] == ["7", "1.5 k", "3.4 M", "1.2 B"]
    assert [duration(s) for s in (3.21, 61, 7300)] == ["3.2 s", "1 min 1 s", "2 h 1 min"]
    assert [energy(kwh) for kwh in (1234.56, 1, 0.35, 0.01, 0.001)] == [
        "1,234.6 kWh",
        "1.0 kWh",
        "350 Wh",
        "10 Wh",
        "3,600 J",
    ]
