# ruff: noqa: RUF005, SIM905 - word lists read better as prose
"""What people put around a command: politeness, names, haste.

Data only, but for the gerund.
"""

BEFORE_VERB = (
    ("could you", "can you", "would you", "will you", "could you please", "can you please") * 4
    + ("please", "please", "please", "kindly", "i want you to", "i'd like you to", "i need you to")
    + (
        "would you please",
        "could you possibly",
        "can u",
        "could u",
        "go and",
        "just",
        "just",
        "now",
    )
    + (
        "quickly",
        "you should",
        "you need to",
        "you must",
        "let's",
        "i would like you to",
        "you can",
    )
    + ("be so kind as to", "would you be so kind as to", "would you be able to", "are you able to")
    + ("is it possible to", "would it be possible to", "do me a favour and", "do me a favor and")
    + (
        "be a dear and",
        "be a love and",
        "be an angel and",
        "if you could",
        "if you can,",
        "be a pal and",
    )
    + ("if it's not too much trouble,", "if you don't mind,", "when you get a chance,", "you may")
    + (
        "as soon as you can,",
        "i was wondering if you could",
        "i wonder if you could",
        "you have to",
    )
    + (
        "do you think you could",
        "any chance you could",
        "might you",
        "may i ask you to",
        "can you pls",
    )
    + ("may i trouble you to", "i'm asking you to", "i'm going to need you to", "make sure to")
    + (
        "make sure you",
        "don't forget to",
        "remember to",
        "hurry up and",
        "go ahead and",
        "pls",
        "plz",
    )
    + (
        "time to",
        "it's time to",
        "i order you to",
        "i command you to",
        "help me",
        "help me to",
        "pray",
    )
    + ("why don't you", "someone", "somebody please", "mind you", "can somebody", "could somebody")
    + ("could someone please", "can we", "can i get you to", "could i get you to", "shall we")
    + ("we need to", "we should", "i have to ask you to", "task:", "please be so good as to", "do")
    + ("would you be good enough to", "it would be great if you could", "it'd be nice if you could")
    + ("i'd be grateful if you could", "i should be most grateful if you would", "so please")
    + (
        "i'd appreciate it if you could",
        "i'd love it if you could",
        "try to",
        "u gotta",
        "could ya",
    )
    + (
        "would ya",
        "gonna need you to",
        "quick,",
        "now then,",
        "i want to",
        "i'd like to",
        "away and",
    )
    + ("i need to", "i'd love to", "i would like to", "let me", "let us", "i wish to", "i wanna")
    + (
        "i have to",
        "you could",
        "maybe",
        "perhaps you could",
        "would you kindly",
        "best to",
        "better",
    )
    + (
        "be a good fellow and",
        "be a sweetheart and",
        "go on and",
        "come on,",
        "feel free to",
        "can ye",
    )
    + (
        "can you like",
        "could you like",
        "can you just",
        "could you just",
        "can you quickly",
        "need you to",
    )
    + (
        "it's possible to",
        "you want to",
        "hey can you",
        "yo can you",
        "hey could you",
        "i ask you to",
    )
    + ("i would be happy if you could", "i'd be so happy if you'd", "it would help if you'd")
    + ("next,", "first,", "then", "and then", "also", "also please", "and", "so", "ok", "okay now")
    + (
        "how about you",
        "what if you",
        "you know what,",
        "i beg you,",
    )
    + ("please you", "would you mind to", "can i ask you to", "you are to", "someone needs to")
)
BEFORE_GERUND = (
    ("would you mind", "would you mind", "do you mind", "how about", "what about", "mind")
    + ("i'd appreciate you", "i suggest", "thanks for", "thank you for", "could you start", "start")
    + ("would you object to", "i recommend", "any chance of you", "can you help me with", "try")
    + ("i need help", "i'd be grateful for you", "fancy", "consider", "no objection to you")
)
GREETINGS = (
    ("hey", "hey house", "ok house", "okay", "ok", "hello", "hi", "hi there", "house", "computer")
    + ("hey computer", "alexa", "hey siri", "ok google", "hey google", "jarvis", "dear house")
    + ("good evening", "good afternoon", "good day", "my dear", "excuse me", "right", "so", "well")
    + ("alright", "um", "uh", "hey um", "oh", "oh and", "also", "and", "now", "listen", "look")
    + ("right then", "sorry but", "yo", "bruh", "dude", "mate", "bro", "man", "ugh", "ah", "wait")
    + ("actually", "ok so", "yeah so", "quick one", "one more thing", "before i forget", "btw")
    + ("by the way", "just quickly", "if you please", "hal", "robot", "assistant", "hey assistant")
    + (
        "er",
        "hmm",
        "like",
        "please",
        "darling",
        "sweetheart",
        "friend",
        "my friend",
        "buddy",
        "boss",
    )
    + ("sir", "madam", "hey you", "you there", "oi", "psst", "anyway", "okay then", "so um", "uhm")
    + ("but", "hey bro", "hello house", "hi house", "home", "hey home", "ok home", "smart home")
    + ("dear assistant", "dear computer", "good morning", "hey there", "howdy", "greetings", "no")
    + ("yes", "yes please", "yeah", "nah", "let me think", "you know", "i mean", "quick", "fine")
    + ("next thing", "first of all", "finally", "hold on", "cool", "great", "perfect", "attention")
)
ENDINGS = (
    (
        "please",
        "please",
        "please",
        "pls",
        "plz",
        "thanks",
        "thanks",
        "thank you",
        "thx",
        "ta",
        "cheers",
    )
    + (
        "now",
        "right now",
        "immediately",
        "asap",
        "for me",
        "for me please",
        "will you",
        "would you",
    )
    + (
        "could you",
        "if you can",
        "if you could",
        "if you would",
        "if you don't mind",
        "if possible",
    )
    + ("if it's not too much trouble", "when you can", "love", "dear", "darling", "mate", "buddy")
    + ("bro", "house", "ok", "okay", "would be great", "that'd be great", "i beg you", "for once")
    + ("for heaven's sake", "at once", "straight away", "quickly", "real quick", "today", "tonight")
    + (
        "this instant",
        "before mum sees",
        "thank you very much",
        "thanks a lot",
        "that's all",
        "man",
    )
    + (
        "ta very much",
        "much appreciated",
        "hen",
        "lol",
        "tho",
        "already",
        "haha",
        "and hurry",
        "son",
    )
    + ("chop chop", "or else", "i mean it", "like now", "and quick", "would you mind", "can you")
    + ("be a dear", "there's a good chap", "if you please", "so much", "yeah", "right", "alright")
    + ("if that's ok", "if it's not too much bother", "for a bit", "for a while", "then", "for us")
    + (
        "again",
        "my friend",
        "sweetie",
        "honey",
        "computer",
        "alexa",
        "thank you dear",
        "asap please",
    )
    + ("for a moment", "for now", "just for tonight", "for the evening", "this evening", "finally")
)
SOFT_ENDINGS = (
    (
        "please",
        "thanks",
        "thank you",
        "pls",
        "dear",
        "mate",
        "darling",
        "house",
        "lol",
        "love",
        "haha",
    )
    + (
        "you know",
        "man",
        "bro",
        "i think",
        "really",
        "right now",
        "honestly",
        "today",
        "though",
        "tho",
    )
    + ("again", "at the moment", "tonight", "now", "my friend", "hen", "i guess", "computer", "ugh")
)
DOUBLED = frozenset(("put set get shut cut stop dim drop pop flip let run hit chop plug").split())
NO_GERUND = frozenset(["don't", "never", "nevermind", "pls"])


def gerund(phrase: str) -> str | None:
    """The phrase with its first word as a gerund: "turn it on" -> "turning it on"."""
    verb, _, rest = phrase.partition(" ")
    if not verb.isalpha() or verb in NO_GERUND:
        return None
    if verb in DOUBLED:
        verb += verb[-1] + "ing"
    elif verb.endswith("e") and not verb.endswith(("ee", "be")):
        verb = verb[:-1] + "ing"
    else:
        verb += "ing"
    return f"{verb} {rest}".strip()
