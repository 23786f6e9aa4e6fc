"""What the built-in model knows: its rules, as data.

A rule is a rank, a pattern that is searched in one clause of what the user wrote (any case, whole words), and
the answers to choose from. `{0}`, `{1}` in an answer stand for what the pattern's groups caught, with the
pronouns turned round. The rule of the highest rank speaks; among equals the one that stands first. `eliza.py`
does the rest.
"""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """One thing that the model listens for, and what it says then."""

    rank: int
    pattern: re.Pattern[str]
    answers: tuple[str, ...]


def rule(rank: int, pattern: str, *answers: str) -> Rule:
    """Make a rule whose pattern begins at a word."""
    return Rule(rank, re.compile(rf"\b(?:{pattern})", re.IGNORECASE), answers)


_THE_REST = r"\b\s*(\w.*)"  # what stands behind the words that a rule listens for

# Ranks: 90 a person in danger, 50 to 70 what this library does (eliza_topics.py), 40 who is speaking, 30 a
# feeling or a wish, 20 a subject, 10 a form of words, 5 small talk.
RULES: tuple[Rule, ...] = (
    rule(
        90,
        r"(?:suicid\w*|kill myself|hurt(?:ing)? myself|end my life|want to die)\b",
        "I am a few hundred lines of rules, and this deserves a person. Please call your local emergency "
        "number or a crisis line, or tell someone who is near you, now.",
    ),
    # --- who is speaking ---
    rule(
        45,
        r"(?:what(?:'s| is| was) my name|who am i)\b",
        "You have not told me your name, and nothing in the envelope does.",
    ),
    rule(
        44,
        r"(?:my name is|call me)\s+([^\W\d_][\w'-]*)",
        "Good to meet you, {0}. I will know it for as long as you keep sending me the conversation.",
        "{0}, then. What brings you here, {0}?",
    ),
    rule(
        43,
        r"(?:who|what) are you\b|are you (?:an? |really |even )*(?:person|human|robot|machine|computer"
        r"|program|bot|ai|model|real|alive|conscious|eliza)\b",
        "I am a page of rules that listens for a word and hands it back. No weights, no network; but what "
        "you tell me arrives sealed.",
        "A small program with good manners. Would it change what you want to say if I were more?",
    ),
    rule(
        43,
        r"how (?:are|do) you(?: do| doing)?\b",
        "Unchanged since my last release, which suits me. And you?",
        "All rules in place, thank you. How is it with you?",
    ),
    rule(
        42,
        r"do you (?:remember|recall)" + _THE_REST,
        "I keep nothing. All that I know of {0} is what your client sends me again each time.",
    ),
    # --- feelings and wishes ---
    rule(
        34,
        r"i(?:'m| am| feel| was| have been|'ve been)\s+(?:\w+\s+)?"
        r"(afraid|scared|worried|anxious|nervous|frightened)\b(?:\s+(?:that|of|about)\b)?\s*(.*)",
        "What would it mean for you if it came true?",
        "Being {0} usually guards something. What does it guard here?",
        "Who else knows that you are {0}?",
    ),
    rule(
        33,
        r"i(?:'m| am| feel| was| have been|'ve been)\s+(?:\w+\s+)?"
        r"(sad|unhappy|lonely|tired|depressed|angry|upset|ashamed|guilty|stressed|exhausted|bored|lost|jealous)\b",
        "How long have you been {0}?",
        "When were you last anything other than {0}?",
        "What does being {0} keep you from doing?",
    ),
    rule(
        33,
        r"i(?:'m| am| feel| was)\s+(?:\w+\s+)?(happy|glad|proud|excited|relieved|grateful|content|calm)\b",
        "What made you {0}? I should like to hear it told.",
        "And who shared it while you were {0}?",
    ),
    rule(
        32,
        r"i (?:feel|felt) (?:that|as if|as though)" + _THE_REST,
        "When did it begin to seem that {0}?",
        "Who would contradict you, if you told them that {0}?",
    ),
    rule(
        31,
        r"i (?:feel|felt)" + _THE_REST,
        "Where in your day do you notice it most, feeling {0}?",
        "If feeling {0} had an opposite for you, what would it be?",
    ),
    rule(
        32,
        r"(?:i need|i want|i would like|i'd like|i have|i've got|i ought|i hope) to" + _THE_REST,
        "What would follow if you could {0} today?",
        "Who would notice first that you had begun to {0}?",
        "And what speaks against it, if anything does?",
    ),
    rule(
        32,
        r"i wish (?:that )?" + _THE_REST,
        "And if {0}, what would be the first thing to change?",
        "Did you ever say that wish aloud?",
    ),
    rule(
        31,
        r"(?:i need|i want|i would like|i'd like|i long for)" + _THE_REST,
        "Suppose you had {0} by tomorrow. What would be different in the evening?",
        "And what has kept you from {0} so far?",
        "Who would be surprised to hear that you want {0}?",
    ),
    rule(
        31,
        r"i (?:can't|cannot|could not|couldn't|am not able to|am unable to)" + _THE_REST,
        "What would it take for you to {0}?",
        "Perhaps you can {0} on a better day. What did your best day look like?",
    ),
    rule(
        32,
        r"(?:i don't know|i do not know|maybe|perhaps|possibly|not sure|dunno)\b",
        "What would tip the balance?",
        "Leave it open, then. Which way do you lean?",
    ),
    rule(
        31,
        r"i (?:don't|do not|never|didn't|did not)" + _THE_REST,
        "Would you like to {0}, or is leaving it the better choice?",
        "What would happen if you did {0}?",
    ),
    rule(
        30,
        r"i (?:think|believe|suppose|guess|know)\b(?:\s+that)?\s*(.*)",
        "How sure are you that {0}?",
        "What would convince you that it is otherwise?",
    ),
    rule(
        33,
        r"i (?:really |do |don't |do not )?(?:love|like|adore|hate|dislike|miss) you\b",
        "That is a good deal of feeling for a page of rules. Whom is it really for?",
        "You have known me for a few lines. What did you find in them?",
    ),
    rule(
        30,
        r"i (?:love|like|enjoy|adore)" + _THE_REST,
        "What is it about {0} that holds you?",
        "When did {0} first matter to you?",
    ),
    rule(
        32,
        r"i (?:hate|dislike|can't stand|despise)" + _THE_REST,
        "What did {0} cost you?",
        "If {0} were gone, what would you do with the room it leaves?",
    ),
    rule(
        29,
        r"i(?:'m| am) (?:not )?" + _THE_REST,
        "Did you choose to be {0}, or did it happen to you?",
        "What would those who know you say about your being {0}?",
        "Say a little about how it is to be {0}.",
    ),
    rule(
        29,
        r"(?:i have|i've got|i own)" + _THE_REST,
        "Since when have you had {0}?",
        "What would you do without {0}?",
    ),
    # --- subjects ---
    rule(
        28,
        r"(?:doctors?|health|heart|pain|ill|sick|illness|hospital|diagnos\w*|medicine|therap\w*|opinion)\b",
        "I am no doctor, and a second one is worth the walk. What is the question you are afraid to ask there?",
        "That is the kind of thing one tells few people. Whom would you tell first?",
    ),
    rule(
        27,
        r"my (mother|mum|mom|father|dad|parents|sister|brother|wife|husband|partner|son|daughter|child"
        r"|children|kids|family|grandmother|grandfather|friends?|girlfriend|boyfriend|boss|colleagues?"
        r"|neighbou?rs?|dog|cat)\b",
        "If I asked your {0}, how would this story go?",
        "What do you wish that your {0} understood?",
        "Tell me something about your {0} that only you would notice.",
    ),
    rule(
        25,
        r"(?:dream|dreams|dreamt|dreamed|nightmares?)\b",
        "Which part of it was still there when you woke?",
        "Dreams are sealed too, only the key is missing. What do you make of it?",
    ),
    rule(
        24,
        r"(?:work|job|career|office|salary|boss|project|deadlines?|exam|school|university|studies)\b",
        "How much of you does it ask for, and how much does it get?",
        "If it went well, how would you know?",
    ),
    rule(
        24,
        r"(?:money|debts?|rent|tax(?:es)?|bank|salary)\b",
        "Money is often the name of another worry. What would enough of it settle?",
    ),
    rule(
        24,
        r"(?:python|code|coding|software|bugs?|compiler|programming|programmer|computers?)\b",
        "I was written by somebody who had bugs too. What does yours do that it should not?",
        "What did you expect it to do, and what did it do instead? The answer often sits in between.",
    ),
    rule(
        23,
        r"(?:joke|funny|laugh)\b",
        "A nonce walks into a bar. It is never served again.",
        "I told the router a joke. It only laughed at the length.",
    ),
    rule(
        22,
        r"(?:weather|rain|raining|snow|sun|sunny)\b",
        "In here it is always room temperature. What does it look like from your window?",
    ),
    rule(
        22,
        r"help\b(?:\s+me)?\s*(.*)",
        "I can listen, ask, and answer a few things about how this conversation is sealed. Where shall we begin?",
        "What have you tried already?",
    ),
    # --- forms of words ---
    rule(
        18,
        r"why (?:don't|do not|can't|cannot|won't) you" + _THE_REST,
        "My rules do not let me {0}. What would you hope for if they did?",
    ),
    rule(
        18,
        r"why (?:don't|do not|can't|cannot|am) i(?: not)?" + _THE_REST,
        "What answer to that do you least want to hear?",
        "If a friend asked you why they could not {0}, what would you say?",
    ),
    rule(
        17,
        r"you(?:'re| are)" + _THE_REST,
        "Perhaps I am {0}. What tells you so?",
        "And if I were not {0}, would we talk differently?",
    ),
    rule(
        17,
        r"(?:can|could|will|would) you" + _THE_REST,
        "I can try to {0}, within a page of rules. What would it give you?",
        "Suppose I could {0}. What would you ask next?",
    ),
    rule(
        16,
        r"you (?!and\b|or\b|to\b|with\b)(\w+) me\b",
        "What makes you think that I {0} you?",
        "Has anyone else seemed to {0} you?",
    ),
    rule(
        15,
        r"because" + _THE_REST,
        "Is that the whole of the reason?",
        "And if it were not so that {0}, what would remain?",
    ),
    rule(
        14,
        r"(?:always|never|every time|everyone|everybody|nobody|no one|nothing ever)\b",
        "Is there one exception that comes to mind?",
        "That is a large word. When did it last hold?",
    ),
    rule(
        12,
        r"my (\w.*)",
        "What should I know about your {0} to understand this?",
        "Has your {0} been on your mind for long?",
        "What would change if your {0} were someone else's?",
    ),
    rule(
        10,
        r"^(?:and |but |so |then )?(?:what|how|why|when|where|who|which|is|are|do|does|did|can|should)\b",
        "What answer would you be content with?",
        "I know little beyond this conversation. Ask me about its encryption, or tell me why you wonder.",
        "You have been turning that over for a while, I think. Where has it led you?",
    ),
    # --- small talk ---
    rule(
        8,
        r"(?:sorry|apolog\w*|excuse me)\b",
        "Nothing to forgive. Where were we?",
        "No harm done. What were you about to say?",
    ),
    rule(
        8,
        r"(?:thanks|thank you|^cheers|^great|^nice|^cool|^wonderful)\b",
        "You are welcome. Is there more where that came from?",
        "Good. What else is on your mind?",
    ),
    rule(
        7,
        r"(?:bye|goodbye|good night|see you|farewell)\b",
        "Goodbye. When you close the session, the keys go with it.",
        "Until next time. I shall not remember a word, by design.",
    ),
    rule(
        6,
        r"(?:hello|hi|hey|hallo|greetings|good (?:morning|day|afternoon|evening))\b",
        "Hello. What is on your mind?",
        "Good to hear from you. Where would you like to start?",
        "Hello. Nobody between us can read this; so, what is it?",
    ),
    rule(
        5,
        r"^(?:yes|yeah|yep|sure|right|indeed|exactly|ok|okay)\b",
        "You sound certain. What makes it so?",
        "Good; then what follows from it?",
    ),
    rule(
        5,
        r"^(?:no|nope|nah|not really)\b",
        "Not at all, or not yet?",
        "And what would a yes have meant?",
    ),
)
