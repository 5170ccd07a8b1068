# ruff: noqa: RUF005, SIM905 - word lists read better as prose
"""Words: what people call rooms, devices, numbers and each other.

Data only. Every list is ordinary English, British and American mixed on purpose.
"""

from collections.abc import Mapping, Sequence

Words = Sequence[str]

AREAS: Mapping[str, Words] = {
    "kitchen": ("kitchen",) * 14 + ("kitchenette", "cooking area", "galley"),
    "living_room": ("living room",) * 12
    + ("lounge",) * 4
    + ("sitting room",) * 3
    + ("front room", "family room", "livingroom", "living area", "parlour", "den", "salon"),
    "bedroom": ("bedroom",) * 16
    + ("master bedroom", "main bedroom", "guest room", "sleeping room", "kids' room", "bed room")
    + ("nursery", "children's room", "guest bedroom", "spare room", "kid's bedroom"),
    "bathroom": ("bathroom",) * 14
    + ("toilet", "loo", "washroom", "shower room", "bath", "ensuite", "restroom", "bath room"),
    "office": ("office",) * 12
    + ("study",) * 5
    + ("home office", "workroom", "study room", "den where i work", "work room"),
    "hallway": ("hallway",) * 12
    + ("hall",) * 4
    + ("corridor",) * 3
    + ("entrance", "landing", "entrance hall", "entryway", "foyer", "vestibule", "passage"),
    "garage": ("garage",) * 16 + ("car port", "carport"),
    "garden": ("garden",) * 14
    + ("yard", "backyard", "back garden", "front garden", "back yard", "patio", "terrace"),
}

IN_ALL: Words = (
    ("everywhere",) * 6
    + ("in every room", "in all rooms", "in all the rooms", "all over the house", "in each room")
    + ("throughout the house", "in the whole house", "in the entire house", "all around the house")
    + ("in the house", "all over", "all over the place", "across the house", "in every single room")
    + ("in the whole place", "throughout", "in the whole flat", "around the house", "house-wide")
    + ("in all of the house", "all through the house", "in all the house", "of everywhere")
    + (
        "in the entire place",
        "in the whole apartment",
        "all over the apartment",
        "from top to bottom",
    )
)

ROOM_ALL: Words = (
    ("the whole house",) * 3
    + ("every room", "all rooms", "all the rooms", "the entire house", "the house", "everywhere")
    + ("each room", "the whole place", "the whole flat", "all of the house", "the whole home")
)

HERE: Words = (
    "here",
    "in here",
    "in this room",
    "over here",
    "in there",
    "around here",
    "where i am",
)

# singular and plural, by device; repetition is weight
NOUNS: Mapping[str, tuple[Words, Words]] = {
    "light": (
        ("light",) * 16
        + ("lamp",) * 8
        + ("ceiling light", "bedside lamp", "desk lamp", "floor lamp", "reading lamp", "table lamp")
        + ("standing lamp", "night light", "overhead light", "main light", "big light", "bulb")
        + ("light bulb", "spotlight", "spot", "chandelier", "lighting", "lantern", "led strip")
        + ("ceiling lamp", "wall light", "bedside light", "corner lamp", "led", "illumination")
        + ("reading light", "uplighter", "sconce", "wall lamp", "pendant light", "mood light"),
        ("lights",) * 16
        + ("lamps",) * 5
        + ("bulbs", "spotlights", "spots", "leds", "ceiling lights", "fairy lights", "light bulbs")
        + (
            "led lights",
            "string lights",
            "overhead lights",
            "main lights",
            "wall lights",
            "lanterns",
        ),
    ),
    "heating": (
        ("heating",) * 14
        + ("heat",) * 5
        + ("heater",) * 5
        + ("radiator",) * 5
        + ("thermostat",) * 5
        + ("boiler", "central heating", "underfloor heating", "rad", "electric heater", "warmth"),
        ("radiators",) * 6 + ("heaters",) * 3 + ("rads", "thermostats"),
    ),
    "blinds": (
        ("blind",) * 8
        + ("curtain", "shade", "shutter", "roller blind", "window blind", "sunshade"),
        ("blinds",) * 18
        + ("curtains",) * 5
        + ("shades",) * 3
        + ("shutters",) * 3
        + ("drapes", "roller blinds", "window blinds", "venetian blinds", "window shades")
        + ("roller shutters", "window coverings", "jalousies"),
    ),
    "tv": (
        ("tv",) * 14
        + ("telly",) * 5
        + ("television",) * 7
        + ("tv set", "television set", "smart tv", "tv screen", "big tv", "t.v.", "flat screen")
        + ("goggle box", "tube", "television screen", "flatscreen tv"),
        ("tvs",) * 4 + ("televisions", "tv sets", "tellies", "tv screens"),
    ),
    "fan": (
        ("fan",) * 16
        + ("ceiling fan",) * 3
        + ("ventilator",) * 3
        + (
            "extractor fan",
            "extractor",
            "exhaust fan",
            "ventilation",
            "desk fan",
            "air fan",
            "vent",
        )
        + ("standing fan", "exhaust", "extraction fan", "cooling fan", "electric fan", "blower"),
        ("fans",) * 8 + ("ceiling fans", "ventilators", "extractor fans", "vents", "exhaust fans"),
    ),
    "socket": (
        ("socket",) * 12
        + ("plug",) * 6
        + ("outlet",) * 6
        + ("power outlet", "wall socket", "wall plug", "power socket", "smart plug", "power point")
        + ("mains socket", "power strip", "electric socket", "electric plug", "wall outlet")
        + ("electrical outlet", "plug socket", "smart socket", "receptacle", "electrical socket"),
        ("sockets",) * 8 + ("plugs",) * 4 + ("outlets",) * 4 + ("power outlets", "smart plugs"),
    ),
    "door": (("door",), ("doors",)),
    "garage": (
        ("garage door",) * 9
        + ("garage",) * 7
        + ("garage gate", "garage shutter", "garage roller door", "door of the garage", "car port")
        + ("door to the garage", "big garage door", "up-and-over garage door"),
        ("garage doors",),
    ),
    "timer": (
        ("timer",) * 10
        + ("alarm",) * 4
        + ("reminder",) * 4
        + ("countdown",) * 3
        + ("egg timer", "cooking timer", "countdown timer", "alert", "clock", "oven timer"),
        ("timers", "alarms", "reminders"),
    ),
    "scene": (("scene",), ("scenes",)),
}

FRONT_DOOR: Words = (
    ("the front door",) * 12
    + ("front door",) * 3
    + ("the hallway door", "the door in the hallway", "the hall door", "the entrance door")
    + ("the main door", "the entry door", "the street door", "the house door", "the main entrance")
    + ("the door in the hall", "the door to the street", "the front entrance", "my front door")
    + ("our front door", "that front door", "the door at the front", "the door in front")
    + (
        "the door of entrance",
        "the door of the house",
        "the door in the entrance",
        "the wee front door",
    )
    + (
        "the door of the hallway",
        "the front one, the door",
        "the outside door",
        "the apartment door",
    )
)

ADJECTIVES: Words = (
    ("big", "little", "old", "new", "small", "main", "second", "other", "stupid", "damn", "bloody")
    + ("smart", "fancy", "lovely", "wee", "tall", "red", "blue", "white", "black", "green", "left")
    + ("right", "broken-looking", "freaking", "annoying", "upper", "lower", "modern", "ugly")
    + ("long", "round", "cheap", "noisy", "corner", "back", "brass", "wooden", "good", "nice")
)

ONES: Words = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
TENS: Words = ("zero ten twenty thirty forty fifty sixty seventy eighty ninety").split()

APPLIANCES: Words = (
    ("the washing machine", "the dishwasher", "the oven", "the kettle", "the coffee machine")
    + ("the toaster", "the microwave", "the vacuum", "the robot vacuum", "the hoover", "the radio")
    + ("the sprinkler", "the sprinklers", "the burglar alarm system", "the doorbell", "the camera")
    + ("the fridge", "the freezer", "the stereo", "the music", "the speaker", "the printer")
    + ("the computer", "my laptop", "my phone", "the shower", "the tap", "the hot tub", "the pool")
    + ("the car", "the lawnmower", "the iron", "the hair dryer", "the router", "the wifi")
    + ("the tumble dryer", "the stove", "the hob", "the blender", "the bath", "the fountain")
    + ("the fireplace", "the air conditioning", "the ac", "the dryer", "the washer", "the mixer")
    + ("the rice cooker", "the humidifier", "the dehumidifier", "the coffee maker", "the grill")
    + ("the barbecue", "the playstation", "the xbox", "the projector", "the water", "bluetooth")
    + ("the robot", "the security camera", "the alarm system", "the piano", "the engine")
)

THINGS: Words = (
    "table chair hat phone wallet passport umbrella guitar bicycle book pen cup plate "
    "spoon knife sofa carpet mirror picture camera watch ring shoe sock shirt jacket "
    "scarf glove bag suitcase ladder hammer drill nail screw rope bucket brush towel "
    "pillow blanket candle vase clock bottle box basket toy doll ball kite drum violin "
    "piano radio laptop printer desk shelf cupboard drawer bed wardrobe stove sink tap "
    "bath broom mop iron kettle toaster fridge freezer car bus train boat plane "
    "helicopter tractor tent map compass tree flower bush leaf stone shovel rake hose "
    "fence keyboard mouse cable charger battery magnet lens calculator stamp envelope "
    "newspaper magazine"
).split()

PEOPLE: Words = (
    ("mum", "dad", "Anna", "Peter", "Martin", "Julia", "Maria", "John", "grandma", "grandpa")
    + ("uncle Bob", "aunt Sue", "Lisa", "Tom", "Yuki", "Olga", "Pierre", "Carlos", "Fatima")
    + ("my sister", "my brother", "the boss", "my wife", "my husband", "the neighbour", "my son")
)

FOODS: Words = (
    "pizza pasta soup bread cheese milk coffee tea sushi salad lentils rice eggs "
    "chocolate cake apples bananas beer wine sandwiches burgers chips curry noodles "
    "pancakes yoghurt butter honey sausages fish chicken tofu spinach tomatoes onions "
    "garlic strawberries cookies porridge mustard"
).split()

PLACES: Words = (
    "Peru France London Paris Berlin Tokyo Madrid Norway Canada Brazil Egypt India Rome "
    "Oslo Texas Kenya Chile China Ireland Scotland Vienna Prague Lima Cairo Sydney Boston "
    "Naples Lisbon Iceland"
).split()

TOPICS: Words = (
    "football,modern art,politics,the weather,jazz,astronomy,dinosaurs,cooking,"
    "philosophy,cricket,the economy,black holes,history,chess,yoga,climate change,"
    "gardening,taxes,the internet,opera,quantum physics,love,dreams,robots,space travel,"
    "electricity,music,tennis,poetry,cats,dogs"
).split(",")

TRAITS: Words = (
    "ugly beautiful broken red blue green yellow slow fast funny sad happy angry old new "
    "expensive cheap big small heavy strange boring nice terrible great soft loud dirty "
    "clean empty full late"
).split()
