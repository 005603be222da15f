"""Plain sentences of the kind that people write about pictures and videos, for vocabularies that must also read them.

The synthetic world has a few hundred words only; without these a question in everyday English would fall into letters.
"""

from __future__ import annotations

from typing import Final

PLAIN_ENGLISH: Final = """
What do you see in this picture? Please tell me everything that is visible, from left to right.
How many people are there, and what are they doing? Where are they looking, and who is speaking?
Is there anything unusual here? Explain why you think so, step by step, and say how sure you are.
Describe this photo for someone who cannot see it. Keep it short, simple and clear.
Which of these two images is brighter? Which one was taken first, and how can you tell?
Can you read the text on the sign? Write down all the words and numbers exactly as they appear.
Summarize the video in one sentence. Then list the main events with the time at which each begins and ends.
Count the cars that pass before the light turns green. Does any of them stop?
When does the person open the door? Answer with the start and end time in seconds.
What happens after the ball is thrown? What happened just before that?
Yes. No. None of them. Both of them. All of the above. I am not sure. There is not enough information to answer.
It looks like a man and a woman are walking their dog along the beach in the evening.
A young boy in a white shirt is playing football with his friends on the grass near a large tree.
She picks up the cup with her right hand, puts it down on the shelf, and then closes the door.
A black cat sleeps on the chair next to an open book, a phone and a pair of glasses.
The camera moves slowly toward the mountain, then turns back to show the river and the bridge below.
The woman holding a microphone is singing on the stage, and the people are dancing and clapping.
An old house at the end of the street has a brown roof and a garden full of flowers.
There's a clock on the wall, a lamp in the corner, a bed by the window and a mirror above the sink.
The train arrives at the station; people get off and others get on, carrying bags and boxes.
The man sitting at the desk is writing a letter with a pen, and the child standing beside him is watching.
Several boats are floating on the calm sea under a clear sky with only a few clouds.
Every morning she walks through the park to her work, and every afternoon she runs back home.
He opens the box, takes a knife and cuts the bread into small pieces.
This chart compares the number of students in each year. The highest value is in the last month.
The table shows the name, the price and the date of every item; the total is at the bottom of the page.
Who is the person in the background, and what is his relationship to the child in front?
What color is the car? What kind of animal is this? What time is it? What is the weather like?
What material is the object made of: wood, metal, glass, plastic, paper, stone or cloth?
How long does it take? How far is it? How old is she? How much does it cost? How often does this happen?
Compare the first frame with the last frame and tell me what has changed between them.
Give a title, a short caption and three possible questions with their correct answers.
Let me look at it again. The thing I would like to know is whether it could be used for something else.
You should first find the region that the question is about, and only then describe what is inside the box.
The answer must be a single word, a short phrase, a number, or a list of coordinates in the given format.
I think that the best choice is option B, since the other options do not match what is shown.
Sorry, I cannot help with that. Thank you for your help. You are welcome. Hello! How can I help you today?
Because the light is off, it is hard to see the face; however, the hands and feet can be seen.
If the line goes up, the number gets larger; if it goes down, it gets smaller; otherwise it remains the same.
We don't know what's going on, but they're laughing, so it can't be bad; let's see what they'll do.
Make sure that you mention the size, shape, position and direction of movement of each object.
One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, twenty, hundred, thousand, million.
""".strip()
