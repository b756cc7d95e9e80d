"""DBC files for the tests of buses: random ones with everything that a signal can be, and small ones by hand."""

HEAD = 'VERSION ""\nNS_ :\nBS_:\nBU_: Car\n'
SIZES = (1, 2, 3, 5, 7, 8, 8, 9, 12, 16, 16, 17, 24, 31, 32, 33, 48, 63, 64)
# scale and offset as cantools tells them apart: identity, integers, fractions, one of each, negative, large
FACTORS = (
    "1,0",
    "1,0",
    "0.1,0",
    "0.01,-40",
    "2,0",
    "-1,0",
    "-0.5,3",
    "1,5",
    "1000000,1",
    "1e-06,-90",
    "1,0.5",
    "3,0.25",
    "-1,-7",
)


def bits_of(start, size, motorola):
    """The bits that a signal takes, as databases number them."""
    if not motorola:
        return set(range(start, start + size))
    first = 8 * (start // 8) + 7 - start % 8
    return {8 * (place // 8) + 7 - place % 8 for place in range(first, first + size)}


class DatabaseMaker:
    """One random message: ``text`` is the database, ``length`` its payload bytes. No two signals of a frame overlap."""

    def __init__(self, random, identifier=256):
        self.random = random
        self.identifier = identifier
        self.length = random.choice((1, 2, 5, 8, 8, 8, 8, 12, 20, 64))
        self.signals, self.closing = [], []
        free = set(range(8 * self.length))
        selector = (
            self._place(free, "Selector", "M", sizes=(1, 2, 4, 8), factors=("1,0", "1,0", "2,1", "0.5,0"))
            if random.random() < 0.5
            else None
        )
        for number in range(random.randint(1, 6)):
            self._place(free, f"Root{number}")
        if selector:
            self._choices(free, selector)
        self.text = HEAD + f"BO_ {identifier} Message: {self.length} Car\n" + "".join(self.signals) + "".join(self.closing)

    def _choices(self, free, selector):
        for value in self.random.sample(range(9), self.random.randint(1, 4)):
            below = set(free)
            if self.random.random() < 0.3 and (
                inner := self._place(below, f"Inner{value}", f"m{value}M", sizes=(1, 2, 3), factors=("1,0",))
            ):
                self.closing.append(
                    f"SG_MUL_VAL_ {self.identifier} {inner} {selector} {value}-{value}, {20 + value}-{20 + value};\n"
                )
                if deep := self._place(below, f"Deep{value}", "m1"):
                    self.closing.append(f"SG_MUL_VAL_ {self.identifier} {deep} {inner} 0-0, 2-3;\n")
            for number in range(self.random.randint(0, 3)):
                if name := self._place(below, f"Child{value}_{number}", f"m{value}"):
                    self.closing.append(f"SG_MUL_VAL_ {self.identifier} {name} {selector} {value}-{value};\n")

    def _place(self, free, name, mark="", sizes=SIZES, factors=FACTORS):
        random = self.random
        for _ in range(20):
            size, motorola, start = random.choice(sizes), random.random() < 0.5, random.randrange(8 * self.length)
            if not (taken := bits_of(start, size, motorola)) <= free:
                continue
            free -= taken
            is_float = size in {16, 32, 64} and "M" not in mark and random.random() < 0.4
            sign = random.choice("+-")
            self.signals.append(
                f' SG_ {name} {mark} : {start}|{size}@{0 if motorola else 1}{sign} ({random.choice(factors)}) [0|0] "" Car\n'
            )
            if is_float:
                self.closing.append(f"SIG_VALTYPE_ {self.identifier} {name} : {2 if size == 64 else 1};\n")
            elif random.random() < 0.2:
                self.closing.append(f'VAL_ {self.identifier} {name} 1 "on" 0 "off" 300 "nowhere" ;\n')
            return name
        return None
