def test_x(dataset, network, float_onnx, calibration, tmp_path):
    import numpy as np, onnx
    from drivelake.learning.data import load_split
    from drivelake.declaration import Model, Target
    from compile.reference import Pictures,predict; from compile.quantise import quantise_qnn,quantise_portable,_quantise,_reader,_means,_widened
    from compile.export import canonical
    from compile import snapdragon as htp
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config
    T=("speed_mps", "curvature_1pm")
    M = Model(dataset="tiny", targets=T, input_width=64, input_height=48, channels=8)
    v=Pictures(load_split(dataset,M,"validation").images)
    f=predict(float_onnx,v,T)
    def rep(tag,q):
        o=tmp_path/tag; o.mkdir(); htp.build(q,Target(kind="snapdragon"),o); h=htp.run(o,v,T); c=predict(q,v,T)
        print("\n",tag,"ort-float",np.abs(c-f).mean(0),np.abs(c-f).max(0),"htp-float",np.abs(h-f).mean(0),np.abs(h-f).max(0),"htp-ort",np.abs(h-c).mean(0), "bias", (h-f).mean(0))
    rep("pt",quantise_qnn(float_onnx,calibration,T))
    ranges=dict(zip(T,_widened(predict(float_onnx,calibration,T))))
    for node,mean in _means(float_onnx,T):
        l,h=ranges[node.output[0]]; ranges[node.input[0]]=(l-mean,h-mean)
    for tag,pc,wt in (("pc",True,QuantType.QInt8),("pts8",False,QuantType.QInt8)):
        cfg=get_qnn_qdq_config(onnx.load_from_string(float_onnx),_reader(calibration),activation_type=QuantType.QUInt16,weight_type=wt,per_channel=pc,
         init_overrides={n:[{"quant_type":QuantType.QUInt16,"rmin":np.float32(l),"rmax":np.float32(h)}] for n,(l,h) in ranges.items()})
        if pc: cfg.extra_options["QDQOpTypePerChannelSupportToAxis"]={"Conv":0}
        q=_quantise(float_onnx,cfg)
        print([ (n.input[0], [i.dims for i in q.graph.initializer if i.name==n.input[1]]) for n in q.graph.node if n.op_type=="DequantizeLinear" and "weight" in n.input[0]])
        rep(tag,canonical(q))
    print("std", f.std(0)); c=predict(quantise_portable(float_onnx,calibration,T),v,T); print("portable",np.abs(c-f).mean(0),np.abs(c-f).max(0))
