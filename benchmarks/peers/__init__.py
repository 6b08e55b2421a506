"""
One server per peer, all with the same parts, chosen by their one argument:

chat      all are in one room, and every message goes to all but its sender
rooms     the same in the rooms of /?rooms=a,b,…; a socket talks in the first of its rooms
bun-chat  all are in one room; "name: message" goes to all of it, the sender included; the name is that of /?name=…
echo      every message goes back
deflate   chat, compressed
http      / is "Hello, World!", /json is answer.json, made anew each time
file      GET /file is benchmarks/.build/file, POST /upload answers how many bytes came

Each prints `LISTENING <port>`, binds to 127.0.0.1, and runs until it is ended.
"""
