"""What a loss of power may leave of recorded file-system calls.

A file system without any ordering: what was written to a file since the last sync of that file, and
what changed in a directory since the last sync of that directory, is there or not, each piece for
itself. A piece is a block of 4 KiB, a file's new size, a mode, or one change of a directory; a
rename is one change. Sizes and bytes are apart: a file may have grown and hold zeros.
"""
import itertools
import os
import random
import shutil
from pathlib import Path

BLOCK = 4096

# Pieces of one file or directory up to which every subset of them is tried.
SUBSETS = 6


class File:
    def __init__(self, content=b'', mode=0o600):
        self.content = content
        self.size = len(content)    # as a process sees it
        self.mode = mode
        self.pending = []

    def write(self, offset, data):
        end = offset + len(data)
        while offset < end:
            piece = data[:BLOCK - offset % BLOCK]
            self.pending.append(('data', offset, piece))
            offset += len(piece)
            data = data[len(piece):]
        if end > self.size:
            self.pending.append(('size', end, b''))
            self.size = end

    def truncate(self, size):
        self.pending.append(('truncate', size, b''))
        self.size = size

    def chmod(self, mode):
        self.pending.append(('mode', mode, b''))

    def sync(self, data_only=False):
        kept = [piece for piece in self.pending if data_only and piece[0] == 'mode']
        done = [piece for piece in self.pending if piece not in kept]
        self.content, self.mode = self.after(done)
        self.pending = kept

    def after(self, pieces):
        """(bytes, mode) once these pieces of those that are pending are stored."""
        content, size, mode = bytearray(self.content), len(self.content), self.mode
        for what, number, data in pieces:
            if what == 'data':
                content.extend(bytes(max(0, number + len(data) - len(content))))
                content[number:number + len(data)] = data
            elif what == 'size':
                size = max(size, number)
            elif what == 'truncate':
                size = number
                del content[size:]
            else:
                mode = number
        content.extend(bytes(max(0, size - len(content))))
        return bytes(content[:size]), mode


class Link:
    """A symbolic link: made with all that it says, and never changed."""

    def __init__(self, text):
        self.text = text
        self.pending = ()


class Directory:
    def __init__(self):
        self.entries = {}   # on stable storage
        self.live = {}      # as a process sees them
        self.pending = []

    def change(self, old, new, what):
        """The name `old` goes, if it is one, and `new` comes."""
        self.pending.append((old, new, what))
        self.live = self.after_one(self.live, old, new, what)

    @staticmethod
    def after_one(entries, old, new, what):
        entries = {name: value for name, value in entries.items() if name != old}
        return {**entries, new: what} if new else entries

    def after(self, pieces):
        entries = self.entries
        for piece in pieces:
            entries = self.after_one(entries, *piece)
        return entries

    def sync(self, data_only=False):
        self.entries, self.pending = self.live, []


class Disk:
    """The directories `roots`, empty or as they are now, and what calls make of them."""

    def __init__(self, roots, ignore=lambda path: False):
        self.roots = {os.fspath(root): Directory() for root in roots}
        self.ignore = ignore

    def find(self, path):
        for root, node in self.roots.items():
            if path == root or path.startswith(root + '/'):
                for name in Path(path).relative_to(root).parts:
                    node = node.live.get(name) if node else None
                return node
        return None

    def play(self, call):
        if self.ignore(call.path) or (call.kind == 'mkdir' and call.path in self.roots):
            return
        parent, name = self.find(os.path.dirname(call.path)), os.path.basename(call.path)
        node = self.find(call.path)
        if call.kind == 'create':
            parent.change(None, name, File(mode=call.mode))
        elif call.kind == 'symlink':
            parent.change(None, name, Link(call.to))
        elif call.kind == 'link':
            parent.change(None, name, self.find(call.to))
        elif call.kind == 'mkdir':
            parent.change(None, name, Directory())
        elif call.kind == 'unlink':
            parent.change(name, None, None)
        elif call.kind == 'rename':
            assert os.path.dirname(call.to) == os.path.dirname(call.path)
            old = os.path.basename(call.to)
            parent.change(old, name, parent.live[old])
        elif call.kind == 'write':
            node.write(call.offset, call.data)
        elif call.kind == 'truncate':
            node.truncate(call.offset)
        elif call.kind == 'mode':
            node.chmod(call.mode)
        elif call.kind in ('sync', 'datasync'):
            node.sync(call.kind == 'datasync')
        else:
            assert call.kind == 'lock', f'{call}: what is on stable storage after that?'

    # -- states --------------------------------------------------------------------------------

    def nodes(self):
        """All that anything pending or stored leads to, each once."""
        found, queue = [], list(self.roots.values())
        while queue:
            node = queue.pop()
            if node in found:
                continue
            found.append(node)
            if isinstance(node, Directory):
                queue += node.entries.values()
                queue += [what for _, _, what in node.pending if what]
        return found

    def states(self, bound, seed=0):
        """Each state once, as {path: bytes and mode, text of a link, or None for a directory}.

        All combinations, or, of more than `bound`: each node's own with the others as before or as
        after, and `bound` of the rest by chance.
        """
        nodes = [node for node in self.nodes() if node.pending]
        choices = [subsets(node.pending) for node in nodes]
        seen = set()
        for picks in combinations(choices, bound, random.Random(seed)):
            state = self._state({id(node): pick for node, pick in zip(nodes, picks)})
            key = hash(tuple(sorted(state.items(), key=lambda item: item[0])))
            if key not in seen:
                seen.add(key)
                yield state

    def _state(self, picked):
        state = {}
        queue = list(self.roots.items())
        while queue:
            path, node = queue.pop()
            pieces = picked.get(id(node), ())
            if isinstance(node, Directory):
                state[path] = None
                queue += [(f'{path}/{name}', what) for name, what in node.after(pieces).items()]
            elif isinstance(node, Link):
                state[path] = node.text
            else:
                state[path] = node.after(pieces)
        return state


def subsets(pieces):
    """Some subsets of these, in their order: of few all, with none first and all last."""
    if len(pieces) <= SUBSETS:
        return [pick for count in range(len(pieces) + 1)
                for pick in itertools.combinations(pieces, count)]
    pieces = tuple(pieces)
    found = [(), *[(piece,) for piece in pieces],
             *[pieces[:count] for count in range(2, len(pieces))],
             *[pieces[:at] + pieces[at + 1:] for at in range(len(pieces))],
             tuple(piece for piece in pieces if piece[0] != 'data'), pieces]
    return list(dict.fromkeys(found))


def combinations(choices, bound, dice):
    count = 1
    for choice in choices:
        count *= len(choice)
    if count <= bound:
        yield from itertools.product(*choices)
        return
    for rest in (0, -1):
        usual = [choice[rest] for choice in choices]
        for at, choice in enumerate(choices):
            for pick in choice:
                yield (*usual[:at], pick, *usual[at + 1:])
    for _ in range(bound):
        yield tuple(dice.choice(choice) for choice in choices)


def materialise(state, places):
    """Make a state's files. `places`: where each root is to lie; what was there goes."""
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
    for path, what in sorted(state.items()):
        place = next((place + path[len(root):] for root, place in places.items()
                      if path.startswith(root + '/')), None)
        if not place:
            continue
        if what is None:
            os.makedirs(place, exist_ok=True)
        elif isinstance(what, str):
            os.symlink(what, place)
        else:
            with open(place, 'wb') as file:
                file.write(what[0])
            os.chmod(place, what[1])
