#!/usr/bin/env python3
"""A search with many workers among faults, for an hour: kills, pauses and cut links, of workers and of the coordinator.

    cargo build --release --workspace --bins
    scripts/soak.py [--minutes 60] [--workers 50] [--dir soak] [--seed 1] [--bin target/release]

One coordinator on scripts/runs/demo.toml and so many workers of one thread, each behind a relay of its own through which
this script cuts, holds and resets its connection. Every few seconds something breaks: a worker is killed, stopped for a while,
cut off or held; now and then the coordinator is killed in the middle of what it does and resumed. All the while the script
writes down every score that it sees. In the end it stops everything and checks:

- no score that was ever shown is missing or changed (evaluations lost);
- the journal replays exactly, with each candidate recorded once (duplicates counted);
- no second evaluation by another worker came to another fitness;
- `jradievo fsck` calls the store sound, where this build has it;
- how the coordinator's memory grew.

Exits with 1 if anything is wrong. Needs Python 3.9 and nothing else; memory for the workers (about 0.2 GB each).
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = ROOT / "scripts/runs/demo.toml"


class Relay:
    """A connection's way through this script, which can be cut (closed and refused) or held (nothing passes)."""

    def __init__(self):
        self.target, self.cut, self.open = None, False, asyncio.Event()
        self.open.set()
        self.writers = set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        if self.cut or self.target is None:
            writer.close()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, back}
        await asyncio.gather(self.pump(reader, back), self.pump(there, writer))
        self.writers -= {writer, back}

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                await self.open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def sever(self):
        for writer in list(self.writers):
            writer.transport.abort()


class Soak:
    def __init__(self, args):
        self.args, self.random = args, random.Random(args.seed)
        self.state = args.dir / "state"
        self.count = dict.fromkeys(["worker kills", "worker pauses", "links cut", "links held", "coordinator kills"], 0)
        self.seen, self.changed, self.memory = {}, [], []

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.0f} s  {text}", flush=True)

    def log(self, name):
        return open(self.args.dir / f"{name}.log", "ab")

    async def jradievo(self, *arguments):
        process = await asyncio.create_subprocess_exec(
            self.args.bin / "jradievo", *map(str, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def coordinate(self, command):
        """Starts a coordinator and lets every relay know where it listens."""
        address = self.state / "address"
        address.unlink(missing_ok=True)
        with self.log("coordinator") as log:
            self.coordinator = await asyncio.create_subprocess_exec(
                self.args.bin / "jradievo", *map(str, command), "--listen", "127.0.0.1:0", stdout=log, stderr=log
            )
        while not address.exists():
            if self.coordinator.returncode is not None:
                sys.exit(f"the coordinator ended with {self.coordinator.returncode}: see {self.args.dir}/coordinator.log")
            await asyncio.sleep(0.05)
        port = int(address.read_text().strip().rsplit(":", 1)[1])
        for relay in self.relays:
            relay.target = port

    async def keep_working(self, number):
        """A worker, started again whenever it ends, as a supervisor would."""
        port = await self.relays[number].start()
        worker = self.args.bin / "jradievo-worker"
        command = [worker, "run", "--coordinator", f"http://127.0.0.1:{port}", "--device", "cpu", "--threads", "1"]
        while not self.over:
            with self.log(f"worker-{number}") as log:
                process = await asyncio.create_subprocess_exec(
                    *command, "--name", f"w{number}", stdout=log, stderr=log, env={**os.environ, "RUST_LOG": "warn"}
                )
            self.workers[number] = process
            await process.wait()
            await asyncio.sleep(self.random.uniform(0.2, 3))

    async def watch(self):
        """Writes down every score that is shown, and how much memory the coordinator has."""
        while not self.over:
            await asyncio.sleep(self.args.watch)
            await self.look()

    async def look(self):
        code, out, _ = await self.jradievo("candidates", self.state, "--json")
        if code != 0:
            return
        for line in out.splitlines():
            c = json.loads(line)
            if c["fitness"] is None:
                continue
            was = self.seen.setdefault(c["candidate"], (c["fitness"], c["recipe_digest"]))
            if was != (c["fitness"], c["recipe_digest"]):
                self.changed.append(c["candidate"])
        try:
            status = pathlib.Path(f"/proc/{self.coordinator.pid}/status").read_text()
            kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
            self.memory.append((len(self.seen), kib / 1024))
        except (OSError, StopIteration):
            pass

    async def strike(self):
        """One fault, mended by itself after a while."""
        kind = self.random.choices(list(self.count), weights=[30, 20, 20, 20, 10])[0]
        number = self.random.randrange(self.args.workers)
        worker, relay = self.workers.get(number), self.relays[number]
        self.count[kind] += 1
        alive = worker is not None and worker.returncode is None
        if kind == "worker kills" and alive:
            worker.kill()
        elif kind == "worker pauses" and alive:
            worker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.random.uniform(1, 20))
            if worker.returncode is None:
                worker.send_signal(signal.SIGCONT)
        elif kind == "links cut":
            relay.cut = True
            relay.sever()
            await asyncio.sleep(self.random.uniform(0.5, 20))
            relay.cut = False
        elif kind == "links held":
            relay.open.clear()
            await asyncio.sleep(self.random.uniform(0.5, 30))
            relay.open.set()
        elif kind == "coordinator kills" and not self.restarting:
            self.restarting = True
            self.coordinator.kill()
            await self.coordinator.wait()
            await asyncio.sleep(self.random.uniform(0, 5))
            await self.coordinate(["resume", self.state])
            self.restarting = False

    async def run(self):
        self.began, self.over, self.restarting = time.monotonic(), False, False
        self.relays = [Relay() for _ in range(self.args.workers)]
        self.workers = {}
        sets = [f"seed={self.args.seed}", "search.evaluations=1000000", "scheduling.lease_seconds=5"]
        sets += ["scheduling.attempts=20", "generation.batch_size=10", "search.mode=asynchronous", "search.restarts=ipop"]
        sets += ["scheduling.audit=0.05"]
        await self.coordinate(["start", RUN, "--state", self.state, *[w for s in sets for w in ("--set", s)]])
        tasks = [asyncio.create_task(self.keep_working(n)) for n in range(self.args.workers)]
        tasks.append(asyncio.create_task(self.watch()))
        faults = set()
        told = self.began
        while time.monotonic() - self.began < 60 * self.args.minutes:
            await asyncio.sleep(self.random.expovariate(1 / self.args.every))
            faults.add(asyncio.create_task(self.strike()))
            for fault in [f for f in faults if f.done()]:
                faults.remove(fault)
                fault.result()
            if time.monotonic() - told > 60:
                told = time.monotonic()
                self.say(f"{len(self.seen)} scored, {sum(self.count.values())} faults")
        await asyncio.gather(*faults)
        # Once more among healthy machines, then everything ends.
        await asyncio.sleep(20)
        await self.look()
        self.over = True
        self.coordinator.send_signal(signal.SIGINT)
        await self.coordinator.wait()
        for worker in self.workers.values():
            if worker.returncode is None:
                worker.kill()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return await self.check()

    async def check(self):
        _, out, _ = await self.jradievo("candidates", self.state, "--json")
        candidates = {c["candidate"]: c for c in map(json.loads, out.splitlines())}
        kept = lambda n: candidates.get(n) and (candidates[n]["fitness"], candidates[n]["recipe_digest"])
        lost = [n for n, was in self.seen.items() if kept(n) != was]
        _, out, err = await self.jradievo("replay", self.state, "--json")
        replayed = json.loads(out) if out else {"exact": False, "parts": err}
        finals = sum(c["state"] in ("scored", "failed", "censored") for c in candidates.values())
        code, out, err = await self.jradievo("fsck", self.state)
        sound = code == 0 if "unrecognized subcommand" not in err else None
        _, out, _ = await self.jradievo("audits", self.state, "--json")
        audits = [json.loads(line) for line in out.splitlines()]
        disagree = sum(not a["agree"] or bool(a["differing_samples"]) for a in audits)
        again = sum(
            sum(a["end"] == "scored" for a in c["attempts"]) > 1 for c in candidates.values()
        )
        failed = sum(c["state"] == "failed" for c in candidates.values())
        attempts = sum(len(c["attempts"]) for c in candidates.values())
        for kind, n in self.count.items():
            print(f"{kind:<28} {n}")
        print(f"{'candidates scored':<28} {sum(c['state'] == 'scored' for c in candidates.values())} in {attempts} attempts")
        print(f"{'given up':<28} {failed}")
        print(f"{'evaluations lost':<28} {len(lost)} of {len(self.seen)} that were seen")
        print(f"{'scores changed':<28} {len(set(self.changed))}")
        print(f"{'duplicates counted':<28} {again + replayed.get('results', 0) - finals}")
        print(f"{'journal replays':<28} {'exactly' if replayed['exact'] else replayed['parts']}")
        print(f"{'fsck':<28} {'sound' if sound else 'not in this build' if sound is None else out + err}")
        print(f"{'audited by another worker':<28} {len(audits)}, {disagree} differ")
        if self.memory:
            first = self.memory[min(2, len(self.memory) - 1)]
            last = self.memory[-1]
            print(f"{'coordinator, MiB':<28} {first[1]:.0f} at {first[0]} candidates, {last[1]:.0f} at {last[0]}")
        wrong = disagree or lost or self.changed or again or replayed.get("results") != finals or not replayed["exact"] or sound is False
        return 1 if wrong else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--workers", type=int, default=50)
    p.add_argument("--every", type=float, default=2, help="seconds between two faults, on average")
    p.add_argument("--watch", type=float, default=10, help="seconds between two looks at the scores")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--dir", type=pathlib.Path, default=pathlib.Path("soak"))
    p.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
    args = p.parse_args()
    args.dir, args.bin = args.dir.resolve(), args.bin.resolve()
    if (args.dir / "state").exists():
        sys.exit(f"{args.dir} holds a soak already: name a new folder")
    args.dir.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(Soak(args).run()))


if __name__ == "__main__":
    main()
