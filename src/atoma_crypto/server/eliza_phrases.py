"""What the built-in model says where no rule speaks, and how it turns pronouns round: data, as the rules are."""

import re

# When no rule speaks.
OTHERWISE: tuple[str, ...] = (
    "I am listening. What is behind that?",
    "Put it in other words for me.",
    "And how does that sit with you?",
    "What made you think of it just now?",
    "Stay with that for a moment; there is no hurry here.",
    "I follow you so far. What happened next?",
)

# When no rule speaks and an earlier turn of the user has something to come back to.
CAME_UP = re.compile(
    r"\bmy (?!name\b)((?:(?:own|old|new|best|first|second|last|little|whole) )?[\w'-]+)", re.IGNORECASE
)
COME_BACK: tuple[str, ...] = (
    "Before that you spoke of your {0}. Is there a thread between the two?",
    "I still have your {0} in mind. How does this touch it?",
    "Shall we return to your {0}? It seemed to matter.",
)

# When the user sends the same words again.
AGAIN: tuple[str, ...] = (
    "You told me so before, in the same words. What is different this time?",
    "The same words again; the ciphertext, I promise, is a new one. What did I miss?",
)

# When the user said a name earlier and asks for it. The group of NAMED is the name.
NAMED = re.compile(r"\b(?:my name is|call me)\s+([^\W\d_][\w'-]*)", re.IGNORECASE)
NAME_ASKED = re.compile(r"\b(?:what(?:'s| is| was) my name|who am i)\b", re.IGNORECASE)
NAME_KNOWN: tuple[str, ...] = (
    "You are {0}; you said so earlier, and your client has just sent it to me again.",
    "{0}. I read it in what you sent along.",
)

# When there is nothing to answer: no message of the user, or an empty one.
OPENING: tuple[str, ...] = (
    "Hello, I am Eliza. What you write reaches me sealed. What is on your mind?",
    "Take your time. I am here, and the line is private.",
)

# When the last message is the result of a tool.
TOOL_SAID = "The tool says: {0}"

# Pronouns turned round. Pairs of words come first, so that a verb follows its pronoun.
REFLECTIONS: dict[str, str] = {
    "i am": "you are",
    "i was": "you were",
    "am i": "are you",
    "was i": "were you",
    "you are": "I am",
    "you were": "I was",
    "are you": "am I",
    "were you": "was I",
    "i'm": "you're",
    "i've": "you've",
    "i'll": "you'll",
    "i'd": "you'd",
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "you're": "I'm",
    "you've": "I've",
    "you'll": "I'll",
    "you'd": "I'd",
    "your": "my",
    "yours": "mine",
    "yourself": "myself",
}
# "you" is "me" behind one of these words or at the end, and "I" elsewhere.
BEFORE_ME = re.compile(
    r"\b(?:about|above|after|against|around|ask|at|before|behind|believe|beside|between|by|call|down|for|from|give|hate"
    r"|help|in|into|know|like|love|meet|near|need|of|off|on|over|see|show|tell|than|thank|to|toward|trust|under"
    r"|understand|upon|want|with|without)\s*$",
    re.IGNORECASE,
)
