"""The style sheet of a run's report: light and dark by what the reader's system prefers, nothing fetched."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#687078;--line:#e1e4e8;--page:#fbfbfa;--card:#fff;
--a:#2563c9;--b:#d1602b;--spike:#b3261e;--plan:#c3c9d0}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa2ab;--line:#30353b;--page:#15181b;
--card:#1d2125;--a:#7fb0ff;--b:#ffa06a;--spike:#ff8a80;--plan:#4a5159}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:2.2rem 1.25rem 4rem}
h1{font-size:1.65rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2.4rem 0 .6rem}h3{font-size:.85rem;font-weight:500;color:var(--soft);margin:1.1rem 0 .2rem}
p{margin:.2rem 0;color:var(--soft)}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{margin:0;padding:.7rem .9rem;background:var(--card);border:1px solid var(--line);border-radius:8px;
white-space:pre-wrap;overflow-wrap:anywhere}pre+p{margin-top:.8rem}p+pre{margin-top:.3rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.4rem,1fr));gap:.6rem;margin:1.4rem 0 .9rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.6rem .7rem}
.tile b{display:block;font-size:1.15rem;line-height:1.35;white-space:nowrap;font-weight:600;
font-variant-numeric:tabular-nums}
.tile span{display:block;color:var(--soft);font-size:.8rem;line-height:1.35}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem .9rem .6rem;
min-width:0;position:relative}
figure h2{margin:0 0 .4rem;font-size:.95rem}
figcaption{color:var(--soft);font-size:.82rem;display:flex;flex-wrap:wrap;gap:.1rem 1.2rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:.9rem;margin-top:.9rem}
.none{font-size:.85rem}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.grid{stroke:var(--line)}.axis{stroke:var(--soft);stroke-opacity:.6}
polyline{fill:none;stroke-width:1.9;stroke-linejoin:round}
polyline.faint{stroke-width:1;stroke-opacity:.3}polyline.dots{stroke-width:1.6}
.a{stroke:var(--a)}.b{stroke:var(--b)}circle.a,.bar.a{fill:var(--a);stroke:none}circle.b{fill:var(--b);stroke:none}
.bar.plan,.key.plan{fill:var(--plan);background:var(--plan)}
.mark line{stroke:var(--spike);stroke-dasharray:3 3;stroke-opacity:.75}.mark path{fill:var(--spike)}
.key{display:inline-block;width:1.2em;height:.2em;vertical-align:middle;margin-right:.45em;border-radius:2px}
.key.a{background:var(--a)}.key.b{background:var(--b)}.key.faint{opacity:.4}
.key.dots{height:.5em;width:.5em;border-radius:50%}.key.bar{height:.6em;width:.9em}
.key.spike{width:0;height:0;border:.3em solid transparent;border-top:.5em solid var(--spike);border-bottom:0;
border-radius:0;margin-right:.35em}
.switch{position:absolute;opacity:0}.switch+label{float:right;font-size:.8rem;color:var(--soft);cursor:pointer;
border:1px solid var(--line);padding:.05rem .6rem}.switch:checked+label{color:var(--ink);background:var(--line)}
.switch:focus-visible+label{outline:2px solid var(--a)}#even+label{border-radius:6px 0 0 6px}
#log+label{border-radius:0 6px 6px 0;border-left:0}.turn{display:flex;float:right}
figure:has(#log:checked) .even,figure:has(#even:checked) .log{display:none}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
th{color:var(--soft);font-weight:500}th:first-child{width:15rem}thead th{font-size:.82rem}
td{font-variant-numeric:tabular-nums}td.soft{color:var(--soft)}
summary{cursor:pointer;color:var(--soft);font-size:.9rem;margin:1rem 0 .3rem}
@media(max-width:560px){th:first-child{width:40%}main{padding-top:1.3rem}.wide text{font-size:19px}}
@media print{body{background:none}figure,.tile{break-inside:avoid}}
"""
