"""What the deployment files say to each other and to the programs. The first argument is a folder with what
`kubectl kustomize` rendered; it may be written to."""
import ipaddress
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

root = pathlib.Path(__file__).resolve().parents[2]
deploy = root / "deploy"
tmp = pathlib.Path(sys.argv[1])
server = root / "target/release/voicematch-server"
loadtest = root / "target/release/loadtest"


def check(holds, *why):
    if not holds:
        sys.exit("wrong: " + " ".join(map(str, why)))


def accepts(port):
    """Whether somebody listens at this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def rendered(part):
    return list(yaml.safe_load_all((tmp / f"kubernetes-{part}.yaml").read_text()))


def one(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    check(len(found) == 1, "not one", kind, name)
    return found[0]


def duration(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


# Flags and variables: what is written as one of ours is one of ours.
helps = run(server, "--help") + run(loadtest, "--help")
helps += "".join(run(server, command, "--help") for command in ("healthcheck", "checkconfig", "self-test", "gentoken"))
helps += "".join(run(loadtest, command, "--help") for command in ("merge", "report", "compare"))
variables = set(re.findall(r"\[env: (\w+)", helps))
flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", helps))
# What git has: a stack that ran here leaves files of its own below deploy/.
names = run("git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-z", "deploy").split("\0")
texts = [root / name for name in names if name and (root / name).is_file() and not name.endswith(".json")]
texts += [root / "SECURITY.md", root / "CHANGELOG.md", *(root / ".github/workflows").glob("*")]
for text in texts:
    for variable in re.findall(r"\b(?:VOICEMATCH|LOADTEST)_[A-Z_]+\b", text.read_text()):
        # Kubernetes makes VOICEMATCH_PORT itself, which is why a comment names it.
        check(variable in variables | {"VOICEMATCH_PORT"}, text, "names", variable)
ours = re.compile(r"(?:^|[\s`(\"/])(?:voicematch-server|loadtest|deploy/nightly-loadtest) ((?:\\\n|[^|>#)\n])*)", re.M)
for text in texts:
    # Flags in lines that call one of the programs, and those in back quotes or brackets, as prose names them.
    content = text.read_text()
    named = [flag for call in ours.findall(content) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", call)]
    named += re.findall(r"[`(](--[a-z][a-z-]+)", content) if text.suffix == ".md" else []
    for flag in named:
        check(flag in flags, text, "names", flag)

# What workflows do, scripts do, which also run by hand. What is not ours is named by its commit: a tag may be moved.
for workflow in (root / ".github/workflows").glob("*"):
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        for step in job.get("steps", []):
            uses = step.get("uses", "./")
            check(uses.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", uses), workflow.name, "uses what may change:", uses)
            if "run" in step:
                called = step["run"].split()[0]
                check(step["run"].count("\n") == 0 and os.access(root / called, os.X_OK), workflow.name, "runs no script:", step["run"])

# One version everywhere.
version = re.search(r'\[workspace\.package\]\nversion = "(.*)"', (root / "Cargo.toml").read_text())[1]
for file in [deploy / "Dockerfile", *deploy.glob("compose*.yaml"), *deploy.glob("kubernetes*/**/kustomization.yaml")]:
    for found in re.findall(r"(?:voicematch-(?:server|loadtest):|newTag: )([\w.]+)", file.read_text()):
        check(found == version, file, "says", found, "but Cargo.toml", version)
client = [json.loads((root / "server/client" / name).read_text()) for name in ("package.json", "package-lock.json")]
for found in (client[0]["version"], client[1]["version"], client[1]["packages"][""]["version"]):
    check(found == version, "server/client says", found, "but Cargo.toml", version)

# Compose.
compose = yaml.safe_load((deploy / "compose.yaml").read_text())
added = {file.name.split(".")[1]: yaml.safe_load(file.read_text()) for file in deploy.glob("compose.*.yaml")}
copy = tmp / "make-secrets"
copy.mkdir()
run("cp", "-r", deploy / "make-secrets", deploy / "valkey", copy)
run(copy / "make-secrets")
run(copy / "make-secrets")
made = dict(line.split("=", 1) for line in (copy / ".env").read_text().splitlines() if not line.startswith("#"))
parts = {part: {} for part in ("secrets", "networks", "volumes")}
for file in (compose, *added.values()):
    for part, known in parts.items():
        known |= file.get(part, {})
for name, secret in parts["secrets"].items():
    file = copy / secret["file"]
    check(file.is_file() and file.stat().st_mode & 0o077 == 0, "make-secrets does not make", file.name, "or lets others read it")
for file in ("compose.yaml", "compose.cluster.yaml"):
    for needed in re.findall(r"\$\{(\w+):\?", (deploy / file).read_text()):
        check(needed in made, "make-secrets does not set", needed)
check(not made["RUN_AS"].startswith("0:"), "the containers run as root")
for name, service in [service for file in (compose, *added.values()) for service in file["services"].items()]:
    for secret in service.get("secrets", []):
        check(secret in parts["secrets"], name, "wants the secret", secret)
    for network in service.get("networks", []):
        check(network in parts["networks"], name, "wants the network", network)
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        check(source in parts["volumes"] or (deploy / source).is_file() or (copy / source).is_dir(), name, "mounts", source)
    if build := service.get("build"):
        check((deploy / build["context"] / build["dockerfile"]).is_file(), name, "has no Dockerfile")
        check(f"AS {build['target']}\n" in (deploy / "Dockerfile").read_text(), name, "has no stage", build["target"])
transcription = added["transcription"]["services"]
given = transcription["server"]["environment"]
user, host, port, name = re.fullmatch(r"postgres://(\w+)@(\w+):(\d+)/(\w+)", given["DATABASE_URL"]).groups()
database = transcription[host]["environment"]
check((user, name, port) == (database["POSTGRES_USER"], database["POSTGRES_DB"], "5432"), "DATABASE_URL is not that of", host)
passwords = (copy / "secrets/postgres.pgpass").read_text().strip().split(":")
check(passwords[3:] == [user, (copy / "secrets/postgres.password").read_text().strip()], "the server has another password")
# A published port has one kind of addresses: where a network has no IPv6, Docker's gateway would stand for all who come over it.
for name, service in [(name, service) for file in (compose, *added.values()) for name, service in file["services"].items()]:
    for port in service.get("ports", []):
        check(re.match(r"(0\.0\.0\.0|127\.0\.0\.1):\d+(-\d+)?:", port), name, "publishes", port, "for IPv6 too")
boards = {pathlib.PurePath(v.split(":")[0]).name for v in compose["services"]["grafana"]["volumes"] if "/dashboards/" in v}
check(boards >= {f.name for f in (root / "dashboards").glob("*.json")}, "Grafana does not get every dashboard")
# In the first as many as compose.yaml has, in the second those of compose.cluster.yaml too.
cluster = added["cluster"]["services"]
for file, services in [("prometheus.yml", compose["services"]), ("prometheus.cluster.yml", cluster | compose["services"])]:
    for job in yaml.safe_load((deploy / file).read_text())["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            host, port = target.split(":")
            said = services[host]["environment"]["LOADTEST_METRICS_ADDR" if host == "loadtest" else "VOICEMATCH_ADMIN_LISTEN"]
            check(said.endswith(":" + port), "Prometheus asks", target, "but it listens at", said)


def env_of(service):
    values = {**made, **os.environ}
    fill = lambda text: re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: values.get(m[1]) or m[2], text)
    return {name: fill(value) for name, value in service["environment"].items()}


# The server starts with the settings of compose and of Kubernetes, answers as the probes ask, and drains.
objects = rendered("server")
deployment = one(objects, "Deployment")
pod = deployment["spec"]["template"]["spec"]
container = pod["containers"][0]
settings = {variable["name"]: variable["value"] for variable in container["env"]}
ports = {port["name"]: port["containerPort"] for port in container["ports"]}
check(settings["VOICEMATCH_LISTEN"].endswith(f":{ports['users']}"), "the port users is not that of VOICEMATCH_LISTEN")
check(settings["VOICEMATCH_ADMIN_LISTEN"].endswith(f":{ports['admin']}"), "the port admin is not that of VOICEMATCH_ADMIN_LISTEN")
probes = [container[p]["httpGet"] for p in ("startupProbe", "livenessProbe", "readinessProbe")]
monitor = one(rendered("monitoring"), "ServiceMonitor")
metric = one(rendered("autoscaling"), "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]


def get(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30).read().decode()


def starts(given, asked, ready=lambda get: True):
    mapped = {
        name: str(copy / "secrets" / pathlib.PurePath(value).name) if name.endswith("_FILE") else value
        for name, value in given.items()
    } | {"VOICEMATCH_LISTEN": "127.0.0.1:0", "VOICEMATCH_ADMIN_LISTEN": "127.0.0.1:0"}
    process = subprocess.Popen([server], env=os.environ | mapped, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Its output ends then, at the latest.
    limit = threading.Timer(60, process.kill)
    limit.start()
    try:
        log = []
        for line in process.stdout:
            log.append(line)
            if '"message":"listening"' in line:
                break
        else:
            sys.exit("the server does not start:\n" + "".join(log))
        admin = json.loads(log[-1])["admin"]
        until = time.monotonic() + 30
        while not ready(lambda path: get(f"http://{admin}{path}")):
            check(time.monotonic() < until, "the server does not become ready:", get(f"http://{admin}/readyz"))
            time.sleep(0.1)
        answers = {path: get(f"http://{admin}{path}") for path in asked}
        # An operator shows the token, and nobody else is answered.
        get(f"http://{admin}/support/closes", token=(copy / "secrets/admin.token").read_text().strip())
        try:
            get(f"http://{admin}/support/closes", token="x" * 64)
            sys.exit("wrong: /support answers without its token")
        except urllib.error.HTTPError as refused:
            check(refused.code == 401, "/support answers", refused.code)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        check(process.wait(10) == 0, "the server does not drain")
        return answers
    finally:
        limit.cancel()
        process.kill()


composed = env_of(compose["services"]["server"])
answers = starts(settings, {probe["path"] for probe in probes} | {monitor["spec"]["endpoints"][0]["path"]})
check(re.search(rf"^{metric}\b", answers["/metrics"], re.M), "the server has no metric", metric)
starts(composed, ["/livez"])

# The servers of a cluster differ in nothing, and are behind one proxy.
joined = compose["services"]["server"]["environment"] | cluster["server"]["environment"]
nodes = {name: service for name, service in cluster.items() if "VOICEMATCH_CLUSTER" in service.get("environment", {})}
secrets = {*compose["services"]["server"]["secrets"], *cluster["server"]["secrets"]}
for name in nodes.keys() - {"server"}:
    check(nodes[name]["environment"] == joined, name, "has other settings than server")
    check(set(nodes[name]["secrets"]) == secrets, name, "has other secrets than server")
for name, path in [(name, pathlib.PurePath(value)) for name, value in joined.items() if name.endswith("_FILE")]:
    check(path.name in secrets, "the servers of a cluster do not get", path.name)
proxied = (deploy / "proxies/haproxy.cluster.cfg").read_text()
port = composed.get("VOICEMATCH_LISTEN", ":8080").split(":")[-1]
check(set(re.findall(r"(?m)^    server (\S+ \S+)$", proxied)) == {f"{n} {n}:{port}" for n in nodes}, "the proxy has other servers than", *nodes)
check(re.search(r"bind :(\d+)\n", proxied)[1] == cluster["proxy"]["ports"][0].split(":")[-1], "the proxy's port is not published")
subnet = added["cluster"]["networks"]["proxied"]["ipam"]["config"][0]["subnet"]
check(joined["VOICEMATCH_TRUSTED_PROXY"] == subnet, "the proxy is not trusted")
# Over another network the proxy would come from an address that is not trusted, and all users would be one.
networks_of = lambda name: {n for file in (compose["services"], cluster) for n in file.get(name, {}).get("networks", [])}
for name in nodes:
    shared = networks_of(name) & networks_of("proxy")
    check(shared == {"proxied"}, "the proxy reaches", name, "over", *shared)
run("haproxy", "-c", "-f", deploy / "proxies/haproxy.cluster.cfg")

# The engine takes its configuration, and the servers come in, by the names that compose and Kubernetes give them, with their rights.
objects_of_cluster = rendered("cluster")
in_cluster = one(objects_of_cluster, "Deployment", "voicematch")["spec"]["template"]["spec"]["containers"][0]
in_cluster = {variable["name"]: variable["value"] for variable in in_cluster["env"]}
conf = (deploy / "valkey/valkey.conf").read_text()
valkey_service = one(objects_of_cluster, "Service", "valkey")
at = f"valkey:{re.search(r'(?m)^port (.+)', conf)[1]}"
check(f"{valkey_service['metadata']['name']}:{valkey_service['spec']['ports'][0]['port']}" == at and "valkey" in cluster, "nobody is at", at)
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    free = str(listener.getsockname()[1])
engine = subprocess.Popen(
    ["redis-server", deploy / "valkey/valkey.conf", "--port", free, "--bind", "127.0.0.1", "--dir", tmp,
     "--aclfile", copy / "secrets/users.acl"], stdout=subprocess.DEVNULL)  # fmt: skip
try:
    for given in (env_of({"environment": joined}), in_cluster):
        url = given["VOICEMATCH_CLUSTER"]
        check(url.endswith(f"@{at}"), url, "is not that of", at)
        # The proxy's network is none of this machine's.
        given = given | {"VOICEMATCH_CLUSTER": url.replace(at, f"127.0.0.1:{free}")}
        starts(given, ["/livez"], ready=lambda get: json.loads(get("/readyz")).get("cluster") == "up")
finally:
    engine.terminate()
    engine.wait(10)

# Each secret that the server is to read is one that it gets.
for name, path in [(name, pathlib.PurePath(value)) for name, value in composed.items() if name.endswith("_FILE")]:
    check(path.parent == pathlib.PurePath("/run/secrets"), name, "is in no secret of compose.yaml")
    check(path.name in compose["services"]["server"]["secrets"], "the server of compose.yaml does not get", path.name)
mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
for part, its in [("kubernetes", settings), ("kubernetes-cluster", in_cluster)]:
    howto = (deploy / part / "kustomization.yaml").read_text()
    for name, path in [(name, pathlib.PurePath(value)) for name, value in its.items() if name.endswith("_FILE")]:
        check(str(path.parent) in mounted, name, "is in no Secret of Kubernetes")
        check(f"--from-file={path.name}" in howto, f"{part}/kustomization.yaml does not say how to make", path.name)

# Drains end before they are ended.
grace = lambda given: duration(given["VOICEMATCH_DRAIN_TIMEOUT"]) + 2
pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
check(pod["terminationGracePeriodSeconds"] > pre_stop + grace(settings), "terminationGracePeriodSeconds is too short")
check(duration(compose["services"]["server"]["stop_grace_period"]) > grace(compose["services"]["server"]["environment"]), "stop_grace_period is too short")

# Kubernetes' objects find each other.
labels = deployment["spec"]["template"]["metadata"]["labels"]
fits = lambda selector, labels: selector.items() <= labels.items()
check(fits(deployment["spec"]["selector"]["matchLabels"], labels), "the Deployment does not find its pods")
services = [o for o in objects if o["kind"] == "Service"]
for service in services:
    check(fits(service["spec"]["selector"], labels), service["metadata"]["name"], "finds no pods")
    check(all(port["targetPort"] in ports for port in service["spec"]["ports"]), service["metadata"]["name"], "has no such port")
check(fits(one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels), "the budget finds no pods")
watched = [s for s in services if fits(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
check([s["metadata"]["name"] for s in watched] == ["voicematch-admin"], "the ServiceMonitor finds", watched)
check(monitor["spec"]["endpoints"][0]["port"] in [p["name"] for p in watched[0]["spec"]["ports"]], "the ServiceMonitor has no such port")
job = one(rendered("loadtest"), "Job")["spec"]
job_pod = job["template"]["spec"]
given = {variable["name"]: variable["value"] for variable in job_pod["containers"][0]["env"]}
check(job["completions"] == job["parallelism"] == int(given["SHARDS"]), "the job's shards are not its pods")
urls = {f"{s['metadata']['name']}:{p['port']}" for s in services for p in s["spec"]["ports"]}
for name in ("LOADTEST_URL", "LOADTEST_ADMIN_URL"):
    check(given[name].split("/")[2] in urls, name, "is at no Service")
valkey = one(objects_of_cluster, "Deployment", "valkey")["spec"]
check(fits(valkey_service["spec"]["selector"], valkey["template"]["metadata"]["labels"]), "the Service finds no valkey")
check(valkey["replicas"] == 1 and valkey["strategy"]["type"] == "Recreate", "two engines would be two clusters")
policy = one(objects_of_cluster, "NetworkPolicy", "valkey")["spec"]
check(fits(policy["podSelector"]["matchLabels"], valkey["template"]["metadata"]["labels"]), "the policy finds no valkey")
check([rule["from"] for rule in policy["ingress"]] == [[{"podSelector": {"matchLabels": labels}}]], "others reach valkey")
valkey_pod = valkey["template"]["spec"]
memory = 2 * int(re.search(r"(?m)^maxmemory (\d+)mb", conf)[1])
given = valkey_pod["containers"][0]["resources"]["limits"]["memory"], cluster["valkey"]["mem_limit"]
check(given == (f"{memory}Mi", f"{memory}m"), "valkey has not twice its maxmemory:", *given)
for policy in [one(objects, "NetworkPolicy"), one(rendered("loadtest"), "NetworkPolicy")]:
    check(fits(policy["spec"]["podSelector"]["matchLabels"], labels), "the policy finds no pods")
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            check(port["port"] in ports, "the policy has no port", port["port"])
            check(port["port"] == "users" or rule.get("from"), "everybody reaches the port", port["port"])
for checked in (pod, job_pod, valkey_pod):
    both = checked["securityContext"], checked["containers"][0]["securityContext"]
    check(both[0]["runAsNonRoot"] and both[0]["runAsUser"] and both[0]["seccompProfile"]["type"] == "RuntimeDefault", "a pod may be root")
    check(both[1]["readOnlyRootFilesystem"] and not both[1]["allowPrivilegeEscalation"], "a container may write or rise")
    check(both[1]["capabilities"]["drop"] == ["ALL"], "a container has capabilities")

# The operator's kinds: what its types do not know they leave out.
for found in rendered("monitoring"):
    kept = getattr(operator, found["kind"]).model_validate(found).model_dump(mode="json", by_alias=True, exclude_unset=True)
    check(kept == found, found["kind"], "has fields that the Prometheus operator does not know")

# coturn takes its configuration.
coturn = compose["services"]["coturn"]
script = coturn["command"][0].replace("$$", "$").replace("/tmp/", f"{tmp}/")
script = script.replace("/etc/turnserver.conf", str(deploy / "turnserver.conf")).replace("/run/secrets", str(copy / "secrets"))
conf = script.rsplit("exec ", 1)[0]
subprocess.run(["/bin/sh", "-c", conf], check=True, env=os.environ | env_of(coturn))
conf = (tmp / "turnserver.conf").read_text()
# Nothing that is not the internet's is reached through it, over neither kind of addresses.
denied = [[ipaddress.ip_address(end) for end in ends.split("-")] for ends in re.findall(r"(?m)^denied-peer-ip=(.+)", conf)]
for peer in ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.250.2", "192.0.0.8", "192.168.1.1", "198.18.0.1",
             "198.19.255.255", "::", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fc00::1", "fd12:3456::1", "fe80::1", "febf::1"):  # fmt: skip
    address = ipaddress.ip_address(peer)
    check(any(a.version == address.version and a <= address <= b for a, b in denied), "coturn relays to", peer)
for peer in ("1.1.1.1", "9.9.9.9", "172.32.0.1", "192.0.1.1", "2001:4860:4860::8888", "2606:4700:4700::1111"):
    address = ipaddress.ip_address(peer)
    check(not any(a.version == address.version and a <= address <= b for a, b in denied), "coturn does not relay to", peer)
check("static-auth-secret=" + (copy / "secrets/turn.secret").read_text().strip() in conf, "coturn does not get the secret")
# On loopback, at a port that was free a moment ago.
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
conf = re.sub("(?m)^(listening-port|external-ip|pidfile|userdb)=.*", "", conf) + (
    f"\nlistening-port={port}\nlistening-ip=127.0.0.1\nrelay-ip=127.0.0.1\npidfile={tmp}/turn.pid\nuserdb={tmp}/turndb\n")
(tmp / "turnserver.conf").write_text(conf)
process = subprocess.Popen(["turnserver", "-c", tmp / "turnserver.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
end = time.monotonic() + 20
while process.poll() is None and not (listens := accepts(port)) and time.monotonic() < end:
    time.sleep(0.05)
process.terminate()
said = process.communicate(timeout=10)[0]
bad = [line for line in said.splitlines() if re.search(r"Bad configuration|Unknown|unrecognized|invalid|Wrong address", line, re.I)]
check(listens and not bad, "coturn:", *(bad or [said]))
