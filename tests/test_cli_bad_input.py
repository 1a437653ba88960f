"""The command line and bad input: one line that says what is wrong, exit code 2, and then nothing was written."""

from typing import Any

import pytest

from tests.command_line import CHAT, TASK, TIME, files, run

pytest_plugins = ("tests.command_line",)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["pretain"], "invalid choice: 'pretain'"),
    "unknown option": (["inspect", "store", "--jsno"], "unrecognized arguments: --jsno"),
    "import: missing source": (["import", "nowhere", "new"], "nowhere: no such file or folder"),
    "import: no format": (["import", "broken.yaml", "new"], "no known format"),
    "import: unknown camera": (["import", "logs.hdf5", "new", "--camera", "front"], "'front'"),
    "import: bad size": (["import", "logs.hdf5", "new", "--image-size", "0x8"], "--image-size: '0x8'"),
    "import: other layout": (["import", "logs.hdf5", "store"], "store: holds another layout"),
    "import: into a run": (["import", "logs.hdf5", "iql"], "iql: is not a store"),
    "inspect: missing store": (["inspect", "new"], "new: no such store"),
    "inspect: html is a folder": (["inspect", "store", "--html", "."], "--html .: expected a file"),
    "inspect: html nowhere": (["inspect", "store", "--html", "no/page.html"], "in a folder that exists"),
    "inspect: missing reference": (["inspect", "store", "--reference", "new"], "new: no such store"),
    "inspect: other reference": (["inspect", "store", "--reference", "lift"], "lift: is no reference for store"),
    "inspect: bad returns": (["inspect", "store", "--return-range", "3"], "'3': expected LOW:HIGH"),
    "inspect: returns the wrong way round": (["inspect", "store", "--return-range", "1:0"], "the smaller one first"),
    "inspect: a run": (["inspect", "iql"], "iql: is not a store"),
    "label: missing store": (["label", "new", "--task", TASK], "new: no such store"),
    "label: unknown task": (["label", "store", "--task", "psuht"], "unknown task 'psuht'; did you mean 'pusht'?"),
    "label: no task": (["label", "store"], "--task"),
    "label: other layout": (["label", "store", "--task", "lift-quick"], "its state is not task 'lift-quick'"),
    "label: cannot score": (["label", "store", "--task", "hopper"], "no function of the state"),
    "label: unknown judge": (["label", "store", "--task", TASK, "--judge", "env2"], "invalid choice: 'env2'"),
    "label: name taken": (["label", "store", "--task", TASK], "label set 'env' exists"),
    "label: reserved name": (["label", "store", "--task", TASK, "--name", "logged"], "label set 'logged'"),
    "label: bad name": (["label", "store", "--task", TASK, "--name", "a/b"], "label set name 'a/b'"),
    "label: by looking, without pictures": (
        ["label", "store", "--judge", "progress", "--task", "push it", "--name", "new"],
        "store: holds no pictures, and these labels are made by looking",
    ),
    "label: no task in words": (["label", "store", *TIME, "--task", " ", "--name", "new"], "the task is empty"),
    "label: name taken, by a judge": (["label", "store", *TIME, "--name", "env"], "label set 'env' exists"),
    "label: clip without a model": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--name", "new"],
        "judge 'clip' needs a vision-language model: --model MODEL:CHECKPOINT",
    ),
    "label: missing weights": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--model", "RN50:/no/w.pt", "--name", "new"],
        "no weights at /no/w.pt; download a checkpoint of RN50",
    ),
    "label: unknown architecture": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--model", "RN51:logs.hdf5", "--name", "new"],
        "unknown open_clip model 'RN51'; did you mean 'RN50'?",
    ),
    "label: a model for time": (
        ["label", "store", *TIME, "--model", "RN50:/w.pt", "--name", "new"],
        "--model belongs to judge 'clip' or 'chat', and the judge is 'progress'",
    ),
    "label: unknown encoder": (
        ["label", "seen", "--judge", "progress", "--task", "push it", "--encoder", "efficientnet", "--name", "new"],
        "unknown encoder 'efficientnet'; did you mean 'efficientnet_lite0'?",
    ),
    "label: unknown camera": (
        ["label", "seen", "--judge", "progress", "--task", "push it", "--camera", "imgae", "--name", "new"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "label: unknown method": (["label", "store", *TIME, "--method", "guess"], "invalid choice: 'guess'"),
    "label: unknown shape": (["label", "store", *TIME, "--name", "new", "--shape", "potent"], "shape"),
    "label: shape without marks": (
        ["label", "store", *TIME, "--name", "new", "--shape", "potential"],
        "shape 'potential' needs a success classifier: give a file of marks (--marks FILE)",
    ),
    "label: success without marks": (
        ["label", "store", *TIME, "--name", "new", "--method", "success"],
        "method 'success' learns from marked episodes: give a file of marks",
    ),
    "label: unknown section": (
        ["label", "store", *TIME, "--name", "new", "--set", "rewards.members=2"],
        "unknown section of settings 'rewards'; did you mean 'reward'?",
    ),
    "label: unknown key": (
        ["label", "store", *TIME, "--name", "new", "--set", "reward.membrs=2"],
        "did you mean 'members'?",
    ),
    "label: no setting": (["label", "store", *TIME, "--name", "new", "--set", "seed"], "expected key=value"),
    "label: bad seed": (["label", "store", *TIME, "--name", "new", "--seed", "-1"], "seed"),
    "label: no pairs": (["label", "store", *TIME, "--name", "new", "--pairs", "0"], "--pairs: '0'"),
    "label: missing config": (["label", "store", *TIME, "--name", "new", "--config", "no.yaml"], "no.yaml: cannot be"),
    "label: broken config": (["label", "store", *TIME, "--name", "new", "--config", "broken.yaml"], "not valid YAML"),
    "label: unknown truth": (
        ["label", "store", *TIME, "--name", "new", "--truth", "enf"],
        "unknown label set 'enf' in store; did you mean 'env'?",
    ),
    "label: chat without an endpoint": (
        ["label", "seen", "--judge", "chat", "--task", "push it", "--name", "new"],
        "judge 'chat' needs an endpoint and a model: --url URL --model NAME",
    ),
    "label: chat without a model": (
        ["label", "seen", "--judge", "chat", "--task", "push it", "--name", "new", "--url", "http://127.0.0.1:1/v1"],
        "model",
    ),
    "label: chat without a key": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "https://far.example/v1"],
        "far.example: needs a key; put it into the environment variable OPENAI_API_KEY",
    ),
    "label: chat with a key in the url": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "https://me:secret@far.example/v1"],
        "may hold no user, query or fragment; a key comes from an environment variable",
    ),
    "label: chat at no url": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "far"],
        "the url of the endpoint cannot",
    ),
    "label: chat without pictures": (
        ["label", "store", *CHAT, "--name", "new", "--url", "http://127.0.0.1:1/v1"],
        "store: holds no pictures",
    ),
    "label: the simulator's preferences without its reward": (
        ["label", "store", *TIME, "--name", "new", "--judge", "env", "--method", "preference"],
        "judge 'env' compares true rewards: name the label set that has them (--truth NAME)",
    ),
    **{
        f"label: the simulator's reward beside {words[0]}": (
            ["label", "store", "--task", TASK, "--name", "new", *words],
            f"takes the simulator's reward as it is, without {words[0]}",
        )
        for words in (
            ["--marks", "beyond.yaml"],
            ["--model", "m"],
            ["--url", "http://127.0.0.1:1/v1"],
            ["--baseline", "far"],
            ["--shape", "sparse"],
            ["--pairs", "5"],
            ["--truth", "env"],
            ["--set", "seed=1"],
            ["--camera", "image"],
            ["--encoder", "efficientnet_lite0"],
            ["--budget", "5"],
            ["--answers", "a.sqlite"],
        )
    },
    **{
        f"label: marks that are {name}": (["label", "seen", *TIME, "--name", "new", "--marks", f"{name}.yaml"], words)
        for name, words in (
            ("missing", "missing.yaml: cannot be read"),
            ("broken", "broken.yaml: not valid YAML"),
            ("list", "list.yaml: expected a mapping"),
            ("contradicting", "marks contradict each other on episode 0, observation 1"),
            ("beyond", "has no episode 7; it has 1, counted from 0"),
            ("late", "episode 0 has no observation 99; it has 5, counted from 0"),
            ("mistyped", "unknown key 'succeses' in mistyped.yaml; did you mean 'successes'?"),
            ("numbers", "numbers.yaml: successes: expected entries like {episode: 3, from: 31}, got 0"),
            ("words", "words.yaml: failures.0"),
        )
    },
    "mark: unknown labels": (
        ["mark", "store", "--labels", "enf", "--out", "new.yaml"],
        "unknown label set 'enf' in store; did you mean 'env'?",
    ),
    "mark: labels without success": (
        ["mark", "store", "--labels", "time", "--out", "new.yaml"],
        "label set 'time' does not say which steps succeeded",
    ),
    "mark: not as many": (
        ["mark", "store", "--labels", "env", "--successes", "1", "--failures", "2", "--out", "new.yaml"],
        "1 successes and 2 failures are to be marked; label set 'env' has 0 and 3",
    ),
    "caption: missing store": (["caption", "new", "--task", TASK, "--out", "new.jsonl"], "new: no such store"),
    "caption: unknown task": (["caption", "store", "--task", "psuht", "--out", "new.jsonl"], "unknown task 'psuht'"),
    "caption: no sentences": (["caption", "store", "--task", "hopper", "--out", "new.jsonl"], "hopper"),
    "caption: another layout": (["caption", "store", "--task", "lift-quick", "--out", "new.jsonl"], "lift-quick"),
    "caption: another layout, the other way": (["caption", "lift", "--task", "pusht", "--out", "new.jsonl"], "pusht"),
    "caption: bad seed": (["caption", "store", "--task", TASK, "--out", "new.jsonl", "--seed", "-1"], "-1"),
    "caption: nowhere to write": (["caption", "store", "--task", TASK, "--out", "no/c.jsonl"], "No such file"),
    "adapt: missing captions": (
        ["adapt", "seen", "--captions", "no.jsonl", "--out", "new"],
        "no.jsonl: cannot be read",
    ),
    **{
        f"adapt: captions {name}": (["adapt", "seen", "--captions", f"{name}.jsonl", "--out", "new"], words)
        for name, words in (
            ("no-json", 'no-json.jsonl:1: expected {"episode": 0'),
            ("one-text", "one-text.jsonl: has 1 different captions; a model learns from at least 2"),
            ("no-such", "no-such.jsonl:1: seen has no episode 4, observation 0"),
            ("key", "unknown key 'observatoin' in key.jsonl:1; did you mean 'observation'?"),
        )
    },
    "adapt: no camera": (["adapt", "store", "--captions", "two.jsonl", "--out", "new"], "it has none"),
    "adapt: unknown camera": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--camera", "imgae"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "adapt: folder is there": (["adapt", "seen", "--captions", "two.jsonl", "--out", "iql"], "iql: exists"),
    "adapt: missing weights": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--model", "RN50:/no/w.pt"],
        "no weights at /no/w.pt",
    ),
    "adapt: unknown key": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--set", "lerning_rate=1"],
        "unknown key 'lerning_rate' in adapt; did you mean 'learning_rate'?",
    ),
    "adapt: bad seed": (["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--seed", "-1"], "seed"),
    "pretrain: no store": (["pretrain", "--run", "new"], "expected STORE"),
    "pretrain: no run": (["pretrain", "store"], "--run"),
    "pretrain: missing store": (["pretrain", "new2", "--run", "new"], "new2: no such store"),
    "pretrain: run is there": (["pretrain", "store", "--run", "iql"], "iql: a run is there already; give --resume"),
    "pretrain: run is a file": (["pretrain", "store", "--run", "logs.hdf5"], "logs.hdf5: is a file"),
    "pretrain: run is a store": (["pretrain", "store", "--run", "store"], "store: is a store, not a run"),
    "pretrain: unknown labels": (
        ["pretrain", "store", "--run", "new", "--labels", "enf"],
        "unknown label set 'enf' in store; did you mean 'env'? known: env, logged, time",
    ),
    "pretrain: unknown camera": (
        ["pretrain", "seen", "--run", "new", "--camera", "imgae"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "pretrain: unknown encoder": (
        ["pretrain", "seen", "--run", "new", "--camera", "image", "--encoder", "efficientnet_lite"],
        "unknown encoder 'efficientnet_lite'; did you mean 'efficientnet_lite0'?",
    ),
    "pretrain: unknown algorithm": (
        ["pretrain", "store", "--run", "new", "--algorithm", "iqll"],
        "unknown algorithm 'iqll'; did you mean 'iql'?",
    ),
    "pretrain: unknown preset": (
        ["pretrain", "store", "--run", "new", "--preset", "sparce"],
        "unknown preset 'sparce'; did you mean 'sparse'?",
    ),
    "pretrain: unknown key": (
        ["pretrain", "store", "--run", "new", "--set", "expectle=0.9"],
        "unknown key 'expectle' in configuration; did you mean 'expectile'?",
    ),
    "pretrain: unknown key in a file": (
        ["pretrain", "store", "--run", "new", "--config", "wrong.yaml"],
        "unknown key 'expectle' in settings of iql; did you mean 'expectile'?",
    ),
    "pretrain: unknown state entry": (
        ["pretrain", "store", "--run", "new", "--set", "state_entries=[agent_z]"],
        "unknown state entry 'agent_z' in contract 'pusht'; did you mean 'agent_y'?",
    ),
    "pretrain: no setting": (["pretrain", "store", "--run", "new", "--set", "steps"], "expected key=value"),
    "pretrain: bad value": (["pretrain", "store", "--run", "new", "--set", "expectile=2"], "expectile"),
    "pretrain: bad width": (["pretrain", "store", "--run", "new", "--set", "hidden=[-3]"], "hidden"),
    "pretrain: no steps": (["pretrain", "store", "--run", "new", "--steps", "0"], "steps"),
    "pretrain: steps in words": (["pretrain", "store", "--run", "new", "--steps", "many"], "--steps"),
    "pretrain: bad seed": (["pretrain", "store", "--run", "new", "--seed", "-1"], "seed"),
    "pretrain: bad device": (["pretrain", "store", "--run", "new", "--device", "gpu"], "device"),
    "pretrain: missing file": (["pretrain", "store", "--run", "new", "--config", "no.yaml"], "no.yaml: cannot be read"),
    "pretrain: broken file": (["pretrain", "store", "--run", "new", "--config", "broken.yaml"], "not valid YAML"),
    "pretrain: file of a list": (["pretrain", "store", "--run", "new", "--config", "list.yaml"], "expected a mapping"),
    "pretrain: resume nothing": (["pretrain", "--run", "new", "--resume"], "new: is no run"),
    "pretrain: resume another kind": (["pretrain", "--run", "online", "--resume"], "kind 'finetune'"),
    "pretrain: resume otherwise": (
        ["pretrain", "store", "--run", "iql", "--resume", "--steps", "9"],
        "--resume goes on as the run was begun; leave out: store, steps",
    ),
    "finetune: no parent": (["finetune", "--run", "new", "--task", TASK], "expected RUN and --task"),
    "finetune: no task": (["finetune", "iql", "--run", "new"], "expected RUN and --task"),
    "finetune: missing parent": (["finetune", "nowhere", "--run", "new", "--task", TASK], "nowhere: is no run"),
    "finetune: parent without checkpoint": (
        ["finetune", "begun", "--run", "new", "--task", TASK],
        "begun: has no complete checkpoint yet",
    ),
    "finetune: run is there": (["finetune", "iql", "--run", "online", "--task", TASK], "a run is there already"),
    "finetune: unknown task": (
        ["finetune", "iql", "--run", "new", "--task", "pusht2"],
        "unknown task 'pusht2'; did you mean 'pusht'?",
    ),
    "finetune: unknown task setting": (
        ["finetune", "iql", "--run", "new", "--task", "pusht:horizn=3"],
        "unknown key 'horizn' in task 'pusht:horizn=3'; did you mean 'horizon'?",
    ),
    "finetune: other layout": (["finetune", "iql", "--run", "new", "--task", "hopper"], "not those that the policy"),
    "finetune: unknown gap": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--gap", "gian=2"],
        "unknown key 'gian' in gap 'gian=2'; did you mean 'gain'?",
    ),
    "finetune: gap that means nothing": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--gap", "friction=2"],
        "takes no gap in 'friction'",
    ),
    "finetune: cloning": (["finetune", "bc", "--run", "new", "--task", TASK], "'bc' cannot learn from rewards"),
    "finetune: unknown key": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--set", "warmup_episodes=3"],
        "unknown key 'warmup_episodes' in finetune; did you mean 'warm_up_episodes'?",
    ),
    "finetune: bad value": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--set", "offline_share=1"],
        "offline_share",
    ),
    "finetune: no episodes": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--episodes", "0"],
        "--episodes: '0'",
    ),
    "finetune: bad seed": (["finetune", "iql", "--run", "new", "--task", TASK, "--seed", "-1"], "seed"),
    "finetune: resume another kind": (["finetune", "--run", "iql", "--resume"], "kind 'pretrain'"),
    "finetune: resume otherwise": (
        ["finetune", "--run", "online", "--resume", "--episodes", "9"],
        "--resume goes on as the run was begun; leave out: episodes",
    ),
    "finetune: reset-free in simulation": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--reset-free"],
        "--reset-free is for robots; give --ros, too",
    ),
    "finetune: a person who comes more than always": (
        ["finetune", "--ros", "--reset-free", "--episodes", "9", "--person-every", "0"],
        "--person-every: '0'",
    ),
    "finetune: a person who comes anyway": (
        ["finetune", "--ros", "--episodes", "9", "--person-every", "5"],
        "--person-every is for --reset-free",
    ),
    "finetune: reset-free evaluations": (
        ["finetune", "--ros", "--reset-free", "--episodes", "9", "--evaluate-every", "5"],
        "--evaluate-every needs resets; leave it out",
    ),
    "finetune: of robots in simulation": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--enable"],
        "--enable is for robots; give --ros, too",
    ),
    "finetune: no time": (["finetune", "--ros", "--episodes", "9", "--timeout", "0"], "'0': expected a time above 0"),
    "evaluate: of robots in simulation": (
        ["evaluate", "iql", "--task", TASK, "--timeout", "60"],
        "--timeout is for robots; give --ros, too",
    ),
    "evaluate: a store": (["evaluate", "store", "--task", TASK], "store: is a store, not a run"),
    "evaluate: another rate": (["evaluate", "slow", "--task", TASK], "the policy was trained at 5 Hz"),
    "evaluate: missing run": (["evaluate", "new", "--task", TASK], "new: is no run"),
    "evaluate: no checkpoint": (["evaluate", "begun", "--task", TASK], "begun: has no complete checkpoint yet"),
    "evaluate: unknown task": (["evaluate", "iql", "--task", "pushT"], "unknown task 'pushT'; did you mean 'pusht'?"),
    "evaluate: other layout": (["evaluate", "iql", "--task", "hopper"], "not those that the policy was trained on"),
    "evaluate: unknown gap": (["evaluate", "iql", "--task", TASK, "--gap", "delay=1"], "did you mean 'delay_steps'?"),
    "evaluate: no episodes": (["evaluate", "iql", "--task", TASK, "--episodes", "0"], "--episodes: '0'"),
    "evaluate: bad seed": (["evaluate", "iql", "--task", TASK, "--seed", "-5"], "seed -5"),
    "collect: unknown task": (["collect", "new", "--task", "psuht"], "unknown task 'psuht'; did you mean 'pusht'?"),
    "collect: unknown operator": (
        ["collect", "new", "--task", TASK, "--operator", "rnadom"],
        "unknown operator 'rnadom'; did you mean 'random'?",
    ),
    "collect: no script": (["collect", "new", "--task", TASK], "there is no script for task 'pusht:horizon=4'"),
    "collect: unknown camera": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--camera", "imgae"],
        "unknown camera 'imgae'",
    ),
    "collect: bad quality": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--quality", "2:3"],
        "'2:3': expected a range inside 0:1",
    ),
    "collect: quality in words": (["collect", "new", "--task", TASK, "--quality", "good"], "expected LOW:HIGH"),
    "collect: bad seed": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--seed", "200"],
        "seed 200 with 100 episodes",
    ),
    "collect: too many": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--episodes", "10001"],
        "has room for 10,000 episodes",
    ),
    "collect: bad size": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--image-size", "8xx"],
        "expected HEIGHTxWIDTH",
    ),
    "collect: other layout": (
        ["collect", "seen", "--task", TASK, "--operator", "random", "--episodes", "1"],
        "seen: holds another layout",
    ),
    "collect: not a store": (["collect", "iql", "--task", TASK, "--operator", "random"], "iql: is not a store"),
    "collect: a policy without its camera": (
        ["collect", "new", "--task", TASK, "--operator", "watching"],
        "the policy sees camera 'image' at 8x8, and it is not recorded",
    ),
    "collect: a policy of another task": (
        ["collect", "new", "--task", "hopper", "--operator", "iql"],
        "not those that the policy was trained on",
    ),
    "evaluate: no fisor run": (["evaluate", "iql", "--task", TASK, "--filter", "bc"], "bc/filter: no filter is there"),
    "evaluate: held out, filtered": (["evaluate", "bc", "--held-out", "--filter", "bc"], "--filter is for episodes"),
    "evaluate: filtered on a robot": (["evaluate", "bc", "--ros", "--filter", "bc"], "--filter is said to the nodes"),
    "evaluate: drawn on a robot": (["evaluate", "bc", "--ros", "--stochastic"], "--stochastic is said to the nodes"),
    "up: no such nodes": (["up", "deplay", "list"], "did you mean 'deploy'"),
    "calibrate: no fisor run": (["calibrate", "iql", "--false-safe", "0.1"], "iql: is a run of iql"),
    "calibrate: labels of nothing": (
        ["calibrate", "iql", "--false-safe", "0.1", "--labels", "safe"],
        "--labels is of the other store's episodes",
    ),
    "calibrate: no horizon": (["calibrate", "iql", "--false-safe", "0.1", "--horizon", "0"], "--horizon: '0'"),
    "evaluate: nothing held out": (["evaluate", "bc", "--held-out"], "bc: learned from every episode"),
    "evaluate: held out, in a task": (["evaluate", "bc", "--held-out", "--task", TASK], "--task is for episodes that"),
    "report: missing run": (["report", "new"], "new: is no run"),
    "export: missing store": (["export", "new", "out", "--format", "lerobot"], "new: no such store"),
    "export: a run": (["export", "iql", "out", "--format", "lerobot"], "iql: is not a store"),
    "export: no format": (["export", "store", "out"], "--format"),
    "export: unknown format": (["export", "store", "out", "--format", "lerobt"], "did you mean 'lerobot'?"),
    "export: there already": (["export", "store", "seen", "--format", "lerobot"], "seen: exists"),
    "export: unknown labels": (
        ["export", "store", "out", "--format", "robomimic", "--labels", "evn"],
        "unknown label set 'evn' in store; did you mean 'env'?",
    ),
    "export: video of arrays": (
        ["export", "seen", "out", "--format", "robomimic", "--video"],
        "--video is for LeRobot",
    ),
    "compact: missing store": (["compact", "new"], "new: no such store"),
    "demo: not empty": (["demo", "store"], "store: expected a new or an empty folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(case, here, capfd, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    arguments, message = REFUSED[case]
    before = files(here)
    assert run(*arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("firsthand") and err.endswith("\n") and err.count("\n") == 1, err
    assert files(here) == before
